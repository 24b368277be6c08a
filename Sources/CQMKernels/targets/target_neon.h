// What comes after is compiled for 64-bit ARM, whose baseline has NEON; intrinsics say what plain C
// does not. See target_portable.h.
//
// A vector is two registers: 32 registers of 16 bytes hold what 16 of AVX2 hold, so that tiles
// have the same shapes.
#include "headers.h"

#define QM_SET neon
#define QM_BASE neon
#define QM_SET_IS_NEON 1
#define QM_SET_IS_BASELINE 1
#define QM_VECTOR_BYTES 32
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF

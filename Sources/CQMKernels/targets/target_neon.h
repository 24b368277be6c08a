// Compiles the code after it for 64-bit ARM, whose baseline includes NEON. See target_portable.h.
//
// A vector is a pair of registers: 32 registers of 16 bytes hold as much as AVX2's 16 of 32 bytes,
// so that tiles have the same shapes.
#include "headers.h"

#define QM_SET neon
#define QM_BASE neon
#define QM_SET_IS_NEON 1
#define QM_SET_IS_BASELINE 1
#define QM_VECTOR_BYTES 32
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF

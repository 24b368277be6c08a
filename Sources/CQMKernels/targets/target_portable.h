// Compiles the code after it for the baseline of the architecture.
//
// A family's source is `family.inc`; `family_<set>.c` compiles it once per set:
//
//     #include "../targets/target_<set>.h"
//     #include "family.inc"
//     #include "../targets/target_end.h"
//
// No translation unit contains two sets, so names of static functions do not contain the set, and
// each `.inc` includes, once, what it needs.
#include "headers.h"

#define QM_SET portable
#define QM_BASE portable
#define QM_SET_IS_PORTABLE 1
#define QM_SET_IS_BASELINE 1
#define QM_VECTOR_BYTES 16
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF

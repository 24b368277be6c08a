// What comes after is compiled for the baseline of the architecture.
// A family's source stands in `family.inc` and is compiled once per set by `family_<set>.c`:
//
//     #include "target_<set>.h"
//     #include "family.inc"
//     #include "target_end.h"
//
// Headers with intrinsics or inline functions that do not depend on the set come before these.
#define QM_SET portable
#define QM_SET_IS_PORTABLE 1
#define QM_SET_IS_BASELINE 1
#define QM_VECTOR_BYTES 16
#pragma STDC FP_CONTRACT OFF
#include "target_names.h"

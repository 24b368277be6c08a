// What follows from what a target_<set>.h defines.
#pragma once

// QM_NAME(add) is add_portable, add_avx2, …: one name per set. QM_BASE_NAME(add) is that of the set
// which computes what is no product: see qm_kernel_set.h.
#define QM_JOIN_(name, set) name##_##set
#define QM_JOIN(name, set) QM_JOIN_(name, set)
#define QM_NAME(name) QM_JOIN(name, QM_SET)
#define QM_BASE_NAME(name) QM_JOIN(name, QM_BASE)
#define QM_STRING_(set) #set
#define QM_STRING(set) QM_STRING_(set)

// Numbers of four bytes in a vector.
#define QM_LANES (QM_VECTOR_BYTES / 4)

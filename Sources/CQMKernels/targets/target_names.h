// Definitions that follow from those of a target_<set>.h.
#pragma once

// QM_NAME(add) is add_portable, add_avx2, …: one name per set. QM_BASE_NAME(add) is the name in the
// set's base, which computes everything except products: see qm_kernel_set.h.
#define QM_JOIN_(name, set) name##_##set
#define QM_JOIN(name, set) QM_JOIN_(name, set)
#define QM_NAME(name) QM_JOIN(name, QM_SET)
#define QM_BASE_NAME(name) QM_JOIN(name, QM_BASE)
#define QM_STRING_(set) #set
#define QM_STRING(set) QM_STRING_(set)

// Four-byte numbers per vector.
#define QM_LANES (QM_VECTOR_BYTES / 4)

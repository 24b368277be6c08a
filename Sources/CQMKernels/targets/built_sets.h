// The kernel sets that this build contains. See qm_kernel_set.h.
#pragma once
#include "qm_kernel_set.h"

#if defined(__x86_64__)
#define QM_BUILT_SETS(ROW) QM_PORTABLE_SETS(ROW) QM_X86_SETS(ROW)
#elif defined(__aarch64__)
#define QM_BUILT_SETS(ROW) QM_PORTABLE_SETS(ROW) QM_ARM_SETS(ROW)
#else
#define QM_BUILT_SETS(ROW) QM_PORTABLE_SETS(ROW)
#endif

/// The set, or the portable one if this build does not contain the set: an index of a table with an
/// entry for each of QM_BUILT_SETS.
static inline qm_kernel_set qm_built_set(qm_kernel_set set) {
  switch (set) {
#define QM_CASE(set, base, is_available) case QM_KERNELS_##set:
    QM_BUILT_SETS(QM_CASE)
#undef QM_CASE
      return set;
    default:
      return QM_KERNELS_portable;
  }
}

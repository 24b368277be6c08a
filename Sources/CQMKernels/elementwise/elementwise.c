#include "qm_elementwise.h"

#include "../targets/built_sets.h"

qm_elementwise_kernels qm_elementwise_for(qm_kernel_set set) {
  static const qm_elementwise_kernels kernels[] = {
#define QM_ROW(set, base, is_available) \
  [QM_KERNELS_##set] = {qm_binary_##base, qm_unary_codes_##base},
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

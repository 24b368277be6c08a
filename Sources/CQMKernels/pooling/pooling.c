#include "qm_pooling.h"

#include "../targets/built_sets.h"

#define QM_DECLARE(set, base, is_available)                                          \
  void qm_pool_rows_##base(const qm_pooling *pooling, const void *in, void *out,     \
      ptrdiff_t first, ptrdiff_t last);                                              \
  void qm_pool_planes_##base(const qm_pooling *pooling, const float *in, float *out, \
      ptrdiff_t first, ptrdiff_t last);
QM_BUILT_SETS(QM_DECLARE)

qm_pooling_kernels qm_pooling_for(qm_kernel_set set) {
  static const qm_pooling_kernels kernels[] = {
#define QM_ROW(set, base, is_available) \
  [QM_KERNELS_##set] = {qm_pool_rows_##base, qm_pool_planes_##base},
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

#include "qm_reduction.h"

#include "../targets/built_sets.h"

#define QM_DECLARE(set, base, is_available)                                                 \
  void qm_reduce_##base(int kind, const float *in, float *out, ptrdiff_t count,             \
      ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last, float *scratch);                    \
  void qm_sum_codes_##base(int element_type, const void *in, int64_t *out, ptrdiff_t count, \
      ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last);                                    \
  void qm_extreme_codes_##base(int element_type, int kind, const void *in, void *out,       \
      ptrdiff_t count, ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last);
QM_BUILT_SETS(QM_DECLARE)

qm_reduction_kernels qm_reduction_for(qm_kernel_set set) {
  static const qm_reduction_kernels kernels[] = {
#define QM_ROW(set, base, is_available) \
  [QM_KERNELS_##set] = {qm_reduce_##base, qm_sum_codes_##base, qm_extreme_codes_##base},
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

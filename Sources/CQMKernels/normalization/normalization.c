#include "qm_normalization.h"

#include "../targets/built_sets.h"

#define QM_DECLARE(set, base, is_available)                                              \
  void qm_softmax_##base(bool logarithm, qm_rows rows, const void *in, void *out,        \
      ptrdiff_t first, ptrdiff_t last, float *scratch);                                  \
  void qm_layer_normalization_##base(qm_rows rows, float epsilon, const void *in,        \
      const float *scale, const float *bias, void *out, ptrdiff_t first, ptrdiff_t last, \
      float *scratch);                                                                   \
  void qm_scale_channels_##base(const float *in, float *out, const float *scale,         \
      const float *offset, ptrdiff_t channels, ptrdiff_t inner, ptrdiff_t first,         \
      ptrdiff_t last);
QM_BUILT_SETS(QM_DECLARE)

qm_normalization_kernels qm_normalization_for(qm_kernel_set set) {
  static const qm_normalization_kernels kernels[] = {
#define QM_ROW(set, base, is_available) \
  [QM_KERNELS_##set] = {qm_softmax_##base, qm_layer_normalization_##base, qm_scale_channels_##base},
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

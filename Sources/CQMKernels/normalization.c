#include "qm_normalization.h"

#define NORMALIZATION_DECLARE(set)                                                             \
  void qm_softmax_##set(bool logarithm, qm_rows rows, const void *in, void *out,               \
      ptrdiff_t first, ptrdiff_t last, float *scratch);                                        \
  void qm_layer_normalization_##set(qm_rows rows, float epsilon, const void *in,               \
      const float *scale, const float *bias, void *out, ptrdiff_t first, ptrdiff_t last,       \
      float *scratch);                                                                         \
  void qm_scale_channels_##set(const float *in, float *out, const float *scale,                \
      const float *offset, ptrdiff_t channels, ptrdiff_t inner, ptrdiff_t first,               \
      ptrdiff_t last);
NORMALIZATION_DECLARE(portable)
#if defined(__x86_64__)
NORMALIZATION_DECLARE(avx2)
NORMALIZATION_DECLARE(avx512)
#elif defined(__aarch64__)
NORMALIZATION_DECLARE(neon)
#endif

#define NORMALIZATION_TABLE(set) {qm_softmax_##set, qm_layer_normalization_##set, qm_scale_channels_##set}

qm_normalization_kernels qm_normalization_for(qm_kernel_set set) {
  static const qm_normalization_kernels portable = NORMALIZATION_TABLE(portable);
#if defined(__x86_64__)
  static const qm_normalization_kernels avx2 = NORMALIZATION_TABLE(avx2);
  static const qm_normalization_kernels avx512 = NORMALIZATION_TABLE(avx512);
  if (set == QM_AVX2) return avx2;
  if (set == QM_AVX512) return avx512;
#elif defined(__aarch64__)
  static const qm_normalization_kernels neon = NORMALIZATION_TABLE(neon);
  if (set == QM_NEON) return neon;
#endif
  return portable;
}

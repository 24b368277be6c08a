#include "qm_reduction.h"

#define REDUCTION_DECLARE(set)                                                                 \
  void qm_reduce_##set(int kind, const float *in, float *out, ptrdiff_t count,                 \
      ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last, float *scratch);                       \
  void qm_sum_codes_##set(int element_type, const void *in, int64_t *out, ptrdiff_t count,     \
      ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last);                                       \
  void qm_extreme_codes_##set(int element_type, int kind, const void *in, void *out,           \
      ptrdiff_t count, ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last);
REDUCTION_DECLARE(portable)
#if defined(__x86_64__)
REDUCTION_DECLARE(avx2)
REDUCTION_DECLARE(avx512)
#elif defined(__aarch64__)
REDUCTION_DECLARE(neon)
#endif

#define REDUCTION_TABLE(set) {qm_reduce_##set, qm_sum_codes_##set, qm_extreme_codes_##set}

qm_reduction_kernels qm_reduction_for(qm_kernel_set set) {
  static const qm_reduction_kernels portable = REDUCTION_TABLE(portable);
#if defined(__x86_64__)
  static const qm_reduction_kernels avx2 = REDUCTION_TABLE(avx2);
  static const qm_reduction_kernels avx512 = REDUCTION_TABLE(avx512);
  if (set == QM_AVX2) return avx2;
  if (set == QM_AVX512) return avx512;
#elif defined(__aarch64__)
  static const qm_reduction_kernels neon = REDUCTION_TABLE(neon);
  if (set == QM_NEON) return neon;
#endif
  return portable;
}

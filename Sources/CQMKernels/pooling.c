#include "qm_pooling.h"

#define POOLING_DECLARE(set)                                                                   \
  void qm_pool_rows_##set(const qm_pooling *pooling, const void *in, void *out,                \
      ptrdiff_t first, ptrdiff_t last);                                                        \
  void qm_pool_planes_##set(const qm_pooling *pooling, const float *in, float *out,            \
      ptrdiff_t first, ptrdiff_t last);
POOLING_DECLARE(portable)
#if defined(__x86_64__)
POOLING_DECLARE(avx2)
POOLING_DECLARE(avx512)
#elif defined(__aarch64__)
POOLING_DECLARE(neon)
#endif

#define POOLING_TABLE(set) {qm_pool_rows_##set, qm_pool_planes_##set}

qm_pooling_kernels qm_pooling_for(qm_kernel_set set) {
  static const qm_pooling_kernels portable = POOLING_TABLE(portable);
#if defined(__x86_64__)
  static const qm_pooling_kernels avx2 = POOLING_TABLE(avx2);
  static const qm_pooling_kernels avx512 = POOLING_TABLE(avx512);
  if (set == QM_AVX2) return avx2;
  if (set == QM_AVX512) return avx512;
#elif defined(__aarch64__)
  static const qm_pooling_kernels neon = POOLING_TABLE(neon);
  if (set == QM_NEON) return neon;
#endif
  return portable;
}

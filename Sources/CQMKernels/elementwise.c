#include "qm_elementwise.h"

#define QM_TABLE(set) {qm_binary_##set, qm_unary_codes_##set}

qm_elementwise_kernels qm_elementwise_for(qm_kernel_set set) {
  static const qm_elementwise_kernels portable = QM_TABLE(portable);
#if defined(__x86_64__)
  static const qm_elementwise_kernels avx2 = QM_TABLE(avx2);
  static const qm_elementwise_kernels avx512 = QM_TABLE(avx512);
  if (set == QM_AVX2) return avx2;
  if (set == QM_AVX512) return avx512;
#elif defined(__aarch64__)
  static const qm_elementwise_kernels neon = QM_TABLE(neon);
  if (set == QM_NEON) return neon;
#endif
  return portable;
}

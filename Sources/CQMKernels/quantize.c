#include "qm_quantize.h"

#define QM_TABLE(set) {qm_decode_##set, qm_encode_##set, qm_bounds_##set, qm_table_##set}

qm_quantize_kernels qm_quantize_for(qm_kernel_set set) {
  static const qm_quantize_kernels portable = QM_TABLE(portable);
#if defined(__x86_64__)
  static const qm_quantize_kernels avx2 = QM_TABLE(avx2);
  static const qm_quantize_kernels avx512 = QM_TABLE(avx512);
  if (set == QM_AVX2) return avx2;
  if (set == QM_AVX512) return avx512;
#elif defined(__aarch64__)
  static const qm_quantize_kernels neon = QM_TABLE(neon);
  if (set == QM_NEON) return neon;
#endif
  return portable;
}

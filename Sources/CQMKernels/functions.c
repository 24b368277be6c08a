#include "qm_functions.h"

qm_unary_f32_kernel qm_unary_f32_for(qm_kernel_set set) {
  switch (set) {
#if defined(__x86_64__)
    case QM_AVX2: return qm_unary_f32_avx2;
    case QM_AVX512: return qm_unary_f32_avx512;
#elif defined(__aarch64__)
    case QM_NEON: return qm_unary_f32_neon;
#endif
    default: return qm_unary_f32_portable;
  }
}

qm_power_f32_kernel qm_power_f32_for(qm_kernel_set set) {
  switch (set) {
#if defined(__x86_64__)
    case QM_AVX2: return qm_power_f32_avx2;
    case QM_AVX512: return qm_power_f32_avx512;
#elif defined(__aarch64__)
    case QM_NEON: return qm_power_f32_neon;
#endif
    default: return qm_power_f32_portable;
  }
}

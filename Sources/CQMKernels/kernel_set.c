#include "qm_kernel_set.h"

bool qm_kernel_set_available(qm_kernel_set set) {
  switch (set) {
    case QM_PORTABLE:
      return true;
#if defined(__x86_64__)
    case QM_AVX2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case QM_AVX_VNNI:
      return qm_kernel_set_available(QM_AVX2) && __builtin_cpu_supports("avxvnni");
    case QM_AVX512_VNNI:
      return qm_kernel_set_available(QM_AVX512) && __builtin_cpu_supports("avx512vnni");
    case QM_AVX512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    default:
      return false;
  }
}

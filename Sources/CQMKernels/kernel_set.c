#include "qm_kernel_set.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#if defined(__ANDROID__)
#include <asm/hwcap.h>
#endif

static bool has_dot_products(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

#elif defined(__aarch64__) && defined(__APPLE__)
#include <stddef.h>
#include <sys/sysctl.h>

static bool has_dot_products(void) {
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0) == 0 && has != 0;
}

#elif defined(__aarch64__)

static bool has_dot_products(void) { return false; }

#endif

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
#elif defined(__aarch64__)
    case QM_NEON:
      return true;
    case QM_NEON_DOT:
      return has_dot_products();
#endif
    default:
      return false;
  }
}

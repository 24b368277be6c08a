#include "qm_kernel_set.h"

#include <stddef.h>

#include "built_sets.h"

#if defined(__x86_64__)

#define QM_HAS(instructions) __builtin_cpu_supports(instructions)
#define QM_HAS_AVX2 (QM_HAS("avx2") && QM_HAS("fma"))
#define QM_HAS_AVX512 \
  (QM_HAS("avx512f") && QM_HAS("avx512bw") && QM_HAS("avx512vl") && QM_HAS("avx512dq"))

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#if defined(__ANDROID__)
#include <asm/hwcap.h>
#endif

#define QM_HAS_DOT_PRODUCTS ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0)

#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

static bool has_dot_products(void) {
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0) == 0 && has != 0;
}
#define QM_HAS_DOT_PRODUCTS has_dot_products()

#elif defined(__aarch64__)

#define QM_HAS_DOT_PRODUCTS false

#endif

const char *qm_kernel_set_name(qm_kernel_set set) {
  switch (set) {
#define QM_CASE(set, base, is_available) \
  case QM_KERNELS_##set:                 \
    return #set;
    QM_KERNEL_SETS(QM_CASE)
#undef QM_CASE
  }
  return NULL;
}

bool qm_kernel_set_available(qm_kernel_set set) {
  switch (set) {
#define QM_CASE(set, base, is_available) \
  case QM_KERNELS_##set:                 \
    return is_available;
    QM_BUILT_SETS(QM_CASE)
#undef QM_CASE
    default:
      return false;
  }
}

// The instruction sets that kernels are compiled for and chosen by at run time.
#pragma once
#include <stdbool.h>

typedef enum qm_kernel_set {
  QM_PORTABLE = 0,
  QM_AVX2 = 1,    // AVX2, FMA
  QM_AVX512 = 2,  // AVX-512 F, BW, VL, DQ
  // For products only; what else there is takes the set without dot products.
  QM_AVX_VNNI = 3,     // QM_AVX2, AVX-VNNI
  QM_AVX512_VNNI = 4,  // QM_AVX512, AVX-512 VNNI

  QM_NEON = 5,  // 64-bit ARM
  // For products only, as above.
  QM_NEON_DOT = 6,  // QM_NEON, dot products of bytes
} qm_kernel_set;

/// Whether this machine, and this build, can run the set.
bool qm_kernel_set_available(qm_kernel_set set);

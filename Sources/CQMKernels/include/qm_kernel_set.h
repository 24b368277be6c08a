// The instruction sets that kernels are compiled for; one of them is chosen at run time.
#pragma once
#include <stdbool.h>

// The list of the sets. Numbers, names, tables of kernels, tests and `--kernels` follow from it. A
// new set needs a row here, `targets/target_<set>.h`, `product/product_<set>.c` and, if it is its
// own base, one such file for every other family.
//
//   ROW(set, base, is_available)
//   - set: its name, everywhere.
//   - base: the set whose kernels compute everything except products. A set that only adds
//     instructions for products has another set as its base, and only products are compiled for it.
//   - is_available: whether the machine can run it, with the macros of `targets/kernel_set.c`.
//
// Sets of one architecture are ordered by speed, the fastest last.
#define QM_PORTABLE_SETS(ROW) ROW(portable, portable, true)
#define QM_X86_SETS(ROW)                                                                  \
  ROW(avx2, avx2, QM_HAS_AVX2)                                                            \
  ROW(avxvnni, avx2, QM_HAS_AVX2 && QM_HAS("avxvnni"))                                    \
  ROW(avx512, avx512, QM_HAS_AVX512)                                                      \
  ROW(avx512vnni, avx512, QM_HAS_AVX512 && QM_HAS("avx512vnni"))
#define QM_ARM_SETS(ROW)    \
  ROW(neon, neon, true)     \
  ROW(neondot, neon, QM_HAS_DOT_PRODUCTS)
#define QM_KERNEL_SETS(ROW) QM_PORTABLE_SETS(ROW) QM_X86_SETS(ROW) QM_ARM_SETS(ROW)

#define QM_NUMBER_OF_SET(set, base, is_available) QM_KERNELS_##set,
#define QM_COUNT_SET(set, base, is_available) +1
typedef enum qm_kernel_set { QM_KERNEL_SETS(QM_NUMBER_OF_SET) } qm_kernel_set;
enum { QM_KERNEL_SET_COUNT = 0 QM_KERNEL_SETS(QM_COUNT_SET) };
#undef QM_NUMBER_OF_SET
#undef QM_COUNT_SET

/// The name of the set; NULL for a number that is no set.
const char *qm_kernel_set_name(qm_kernel_set set);

/// Whether this build contains the set and this machine can run it.
bool qm_kernel_set_available(qm_kernel_set set);

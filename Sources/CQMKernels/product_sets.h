// The products of each instruction set.
#pragma once
#include "qm_product.h"
#include "qm_winograd.h"

extern const qm_product qm_product_f32_portable, qm_product_i8_portable, qm_product_i16_portable;
extern const qm_product qm_depthwise_f32_portable, qm_depthwise_i8_portable;
extern const qm_winograd qm_winograd_i8_portable;
#if defined(__x86_64__)
// Of every set beyond the portable one.
#define QM_DECLARE(set)                                                                \
  extern const qm_winograd qm_winograd_i8_##set;                                       \
  extern const qm_product qm_product_f32_##set, qm_product_i8_##set, qm_product_i16_##set; \
  extern const qm_product qm_depthwise_f32_##set, qm_depthwise_i8_##set;               \
  extern const qm_product qm_product_narrow_i8_##set, qm_product_narrow_i16_##set;     \
  extern const qm_product qm_product_thin_i8_##set, qm_product_thin_i16_##set;         \
  extern const qm_product qm_product_thin_f32_##set;                                   \
  extern const qm_product qm_product_packed_2_##set, qm_product_packed_4_##set;
QM_DECLARE(avx2)
QM_DECLARE(avxvnni)
QM_DECLARE(avx512)
QM_DECLARE(vnni)
extern const qm_product qm_product_narrow_f32_avx2, qm_product_narrow_f32_avxvnni;
extern const qm_product qm_product_i8_dot_avxvnni, qm_product_i8_dot_vnni;
extern const qm_product qm_product_i8_2_avx2, qm_product_i8_3_avx2, qm_product_i8_4_avx2;
extern const qm_product qm_product_i8_5_avx2, qm_product_i8_6_avx2, qm_product_i8_7_avx2;
extern const qm_product qm_product_i8_2_avx512, qm_product_i8_3_avx512, qm_product_i8_4_avx512;
extern const qm_product qm_product_i8_5_avx512, qm_product_i8_6_avx512, qm_product_i8_7_avx512;
#endif

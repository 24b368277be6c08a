// The products of each instruction set.
#pragma once
#include "qm_product.h"
#include "qm_winograd.h"

extern const qm_product qm_product_f32_portable, qm_product_i8_portable, qm_product_i16_portable;
extern const qm_product qm_depthwise_f32_portable, qm_depthwise_i8_portable;
extern const qm_winograd qm_winograd_i8_portable;
// Of every set beyond the portable one.
#define QM_DECLARE(set)                                                                \
  extern const qm_winograd qm_winograd_i8_##set;                                       \
  extern const qm_product qm_product_f32_##set, qm_product_i8_##set, qm_product_i16_##set; \
  extern const qm_product qm_depthwise_f32_##set, qm_depthwise_i8_##set;               \
  extern const qm_product qm_product_narrow_i8_##set, qm_product_narrow_i16_##set;     \
  extern const qm_product qm_product_thin_i8_##set, qm_product_thin_i16_##set;         \
  extern const qm_product qm_product_thin_f32_##set;                                   \
  extern const qm_product qm_product_packed_2_##set, qm_product_packed_4_##set;
// Of sets without dot products.
#define QM_DECLARE_BYTES(set)                                                              \
  extern const qm_product qm_product_i8_2_##set, qm_product_i8_3_##set, qm_product_i8_4_##set; \
  extern const qm_product qm_product_i8_5_##set, qm_product_i8_6_##set, qm_product_i8_7_##set;
#if defined(__x86_64__)
QM_DECLARE(avx2)
QM_DECLARE(avxvnni)
QM_DECLARE(avx512)
QM_DECLARE(vnni)
extern const qm_product qm_product_narrow_f32_avx2, qm_product_narrow_f32_avxvnni;
extern const qm_product qm_product_i8_dot_avxvnni, qm_product_i8_dot_vnni;
QM_DECLARE_BYTES(avx2)
QM_DECLARE_BYTES(avx512)
#elif defined(__aarch64__)
QM_DECLARE(neon)
QM_DECLARE(neondot)
extern const qm_product qm_product_narrow_f32_neon, qm_product_narrow_f32_neondot;
extern const qm_product qm_product_i8_dot_neondot;
QM_DECLARE_BYTES(neon)
#endif

// The products of each instruction set.
#pragma once
#include "qm_product.h"

extern const qm_product qm_product_f32_portable, qm_product_i8_portable;
extern const qm_product qm_depthwise_f32_portable, qm_depthwise_i8_portable;
#if defined(__x86_64__)
extern const qm_product qm_product_f32_avx2, qm_product_i8_avx2;
extern const qm_product qm_depthwise_f32_avx2, qm_depthwise_i8_avx2;
extern const qm_product qm_product_f32_avx512, qm_product_i8_avx512;
extern const qm_product qm_depthwise_f32_avx512, qm_depthwise_i8_avx512;
#endif

// What comes after is compiled for AVX2 with dot products of bytes and words (AVX-VNNI). See
// target_portable.h.
#define QM_SET avxvnni
#define QM_SET_IS_AVX2 1
#define QM_HAS_DOT 1
#define QM_VECTOR_BYTES 32
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#include "target_names.h"
// Dot products are the only difference.
#define qm_unary_f32_avxvnni qm_unary_f32_avx2

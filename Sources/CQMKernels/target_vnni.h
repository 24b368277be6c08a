// What comes after is compiled for AVX-512 with dot products of bytes and words (VNNI). See
// target_portable.h.
#define QM_SET vnni
#define QM_SET_IS_AVX512 1
#define QM_HAS_DOT 1
#define QM_VECTOR_BYTES 64
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(                                                                   \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
#include "target_names.h"
// Dot products are the only difference.
#define qm_unary_f32_vnni qm_unary_f32_avx512

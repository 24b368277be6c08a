// Compiles the code after it for AVX-512 with dot products of bytes and words (VNNI). See
// target_portable.h.
#include "headers.h"

#define QM_SET avx512vnni
#define QM_BASE avx512
#define QM_SET_IS_AVX512 1
#define QM_HAS_DOT 1
#define QM_VECTOR_BYTES 64
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(                                                               \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)

// Compiles the code after it for AVX2 with dot products of bytes and words (AVX-VNNI). See
// target_portable.h.
#include "headers.h"

#define QM_SET avxvnni
#define QM_BASE avx2
#define QM_SET_IS_AVX2 1
#define QM_HAS_DOT 1
#define QM_VECTOR_BYTES 32
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)

// Compiles the code after it for AVX2 and FMA. See target_portable.h.
#include "headers.h"

#define QM_SET avx2
#define QM_BASE avx2
#define QM_SET_IS_AVX2 1
#define QM_VECTOR_BYTES 32
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

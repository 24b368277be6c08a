// Compiles the code after it for 64-bit ARM with dot products of bytes. See target_portable.h and
// target_neon.h.
#include "headers.h"

#define QM_SET neondot
#define QM_BASE neon
#define QM_SET_IS_NEON 1
#define QM_HAS_DOT 1
#define QM_VECTOR_BYTES 32
#include "target_names.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

// All headers that kernels need. Every target_<set>.h includes it before it selects instructions,
// because intrinsics and inline functions of headers belong to no set.
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "../quantize/requantize.h"
#include "CQMKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>
#include "qm_quantize.h"
#include "requantize.h"
#include "target_avx512.h"
#include "quantize.inc"
#include "target_end.h"
#endif

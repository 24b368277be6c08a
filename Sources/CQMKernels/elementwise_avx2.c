#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_elementwise.h"
#include "requantize.h"
#include "target_avx2.h"
#include "elementwise.inc"
#include "target_end.h"
#endif

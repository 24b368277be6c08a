#if defined(__x86_64__)
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_reduction.h"
#include "target_avx512.h"
#include "reduction.inc"
#include "target_end.h"
#endif

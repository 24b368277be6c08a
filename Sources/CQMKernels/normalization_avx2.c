#if defined(__x86_64__)
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_normalization.h"
#include "target_avx2.h"
#include "normalization.inc"
#include "target_end.h"
#endif

#if defined(__x86_64__)
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_pooling.h"
#include "target_avx512.h"
#include "pooling.inc"
#include "target_end.h"
#endif

#if defined(__aarch64__)
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_pooling.h"
#include "target_neon.h"
#include "pooling.inc"
#include "target_end.h"
#endif

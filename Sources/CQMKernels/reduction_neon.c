#if defined(__aarch64__)
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_reduction.h"
#include "target_neon.h"
#include "reduction.inc"
#include "target_end.h"
#endif

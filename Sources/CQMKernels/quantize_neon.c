#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>
#include "qm_quantize.h"
#include "requantize.h"
#include "target_neon.h"
#include "quantize.inc"
#include "target_end.h"
#endif

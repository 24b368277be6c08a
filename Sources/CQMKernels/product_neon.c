#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#include "product_sets.h"
#include "qm_functions.h"
#include "requantize.h"

#include "target_neon.h"
#include "product.inc"
#include "winograd.inc"
#include "product_narrow.inc"
#include "product_bytes.inc"
#include "product_packed.inc"
#include "target_end.h"
#endif

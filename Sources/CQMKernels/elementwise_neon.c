#if defined(__aarch64__)
#include <math.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_elementwise.h"
#include "requantize.h"
#include "target_neon.h"
#include "elementwise.inc"
#include "target_end.h"
#endif

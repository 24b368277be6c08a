#include <string.h>
#include "qm_quantize.h"
#include "requantize.h"
#include "target_portable.h"
#include "quantize.inc"
#include "target_end.h"

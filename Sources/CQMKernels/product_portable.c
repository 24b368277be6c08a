#include <string.h>

#include "product_sets.h"
#include "qm_functions.h"
#include "requantize.h"

#include "target_portable.h"
#include "product.inc"
#include "winograd.inc"
#include "target_end.h"

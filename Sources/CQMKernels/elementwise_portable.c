#include <math.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_elementwise.h"
#include "requantize.h"
#include "target_portable.h"
#include "elementwise.inc"
#include "target_end.h"

#include "../targets/target_portable.h"
#include "quantize.inc"
#include "../targets/target_end.h"

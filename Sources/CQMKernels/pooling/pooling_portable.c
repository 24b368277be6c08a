#include "../targets/target_portable.h"
#include "pooling.inc"
#include "../targets/target_end.h"

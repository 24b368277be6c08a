#include "../targets/target_portable.h"
#include "normalization.inc"
#include "../targets/target_end.h"

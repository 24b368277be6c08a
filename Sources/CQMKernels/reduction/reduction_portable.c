#include "../targets/target_portable.h"
#include "reduction.inc"
#include "../targets/target_end.h"

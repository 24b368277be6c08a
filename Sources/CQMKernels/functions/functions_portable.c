#include "../targets/target_portable.h"
#include "functions.inc"
#include "../targets/target_end.h"

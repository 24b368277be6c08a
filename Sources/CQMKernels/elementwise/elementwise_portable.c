#include "../targets/target_portable.h"
#include "elementwise.inc"
#include "../targets/target_end.h"

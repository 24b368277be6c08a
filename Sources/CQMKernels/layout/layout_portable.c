#include "../targets/target_portable.h"
#include "layout.inc"
#include "../targets/target_end.h"

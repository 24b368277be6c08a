#include "../targets/target_portable.h"
#include "product.inc"
#include "../targets/target_end.h"

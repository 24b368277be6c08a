#if defined(__aarch64__)
#include "../targets/target_neondot.h"
#include "product.inc"
#include "../targets/target_end.h"
#endif

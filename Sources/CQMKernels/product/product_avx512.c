#if defined(__x86_64__)
#include "../targets/target_avx512.h"
#include "product.inc"
#include "../targets/target_end.h"
#endif

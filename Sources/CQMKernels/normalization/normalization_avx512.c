#if defined(__x86_64__)
#include "../targets/target_avx512.h"
#include "normalization.inc"
#include "../targets/target_end.h"
#endif

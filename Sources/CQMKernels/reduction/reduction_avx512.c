#if defined(__x86_64__)
#include "../targets/target_avx512.h"
#include "reduction.inc"
#include "../targets/target_end.h"
#endif

#if defined(__x86_64__)
#include "../targets/target_avx2.h"
#include "functions.inc"
#include "../targets/target_end.h"
#endif

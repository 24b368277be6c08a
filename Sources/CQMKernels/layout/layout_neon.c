#if defined(__aarch64__)
#include "../targets/target_neon.h"
#include "layout.inc"
#include "../targets/target_end.h"
#endif

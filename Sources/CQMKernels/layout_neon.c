#if defined(__aarch64__)
#include "layout_types.h"
#include "target_neon.h"
#include "layout.inc"
#include "target_end.h"
#endif

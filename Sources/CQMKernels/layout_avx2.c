#if defined(__x86_64__)
#include "layout_types.h"
#include "target_avx2.h"
#include "layout.inc"
#include "target_end.h"
#endif

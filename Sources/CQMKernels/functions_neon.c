#if defined(__aarch64__)
#include <string.h>
#include "qm_functions.h"
#include "target_neon.h"
#include "functions.inc"
#include "target_end.h"
#endif

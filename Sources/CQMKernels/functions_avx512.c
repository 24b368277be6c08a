#if defined(__x86_64__)
#include <string.h>
#include "qm_functions.h"
#include "target_avx512.h"
#include "functions.inc"
#include "target_end.h"
#endif

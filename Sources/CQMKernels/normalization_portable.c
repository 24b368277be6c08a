#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_functions.h"
#include "qm_normalization.h"
#include "target_portable.h"
#include "normalization.inc"
#include "target_end.h"

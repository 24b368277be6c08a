#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "qm_pooling.h"
#include "target_portable.h"
#include "pooling.inc"
#include "target_end.h"

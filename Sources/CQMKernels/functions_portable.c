#include <string.h>
#include "qm_functions.h"
#include "target_portable.h"
#include "functions.inc"
#include "target_end.h"

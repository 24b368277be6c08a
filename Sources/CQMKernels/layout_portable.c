#include "layout_types.h"
#include "target_portable.h"
#include "layout.inc"
#include "target_end.h"

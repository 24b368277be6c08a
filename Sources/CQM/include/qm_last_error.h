// For the implementation of qm.h alone.
#pragma once
#include "qm.h"

/// Sets the last error of this thread. Longer texts are cut off.
void qm_set_last_error(qm_status status, const char *message, const char *remedy);

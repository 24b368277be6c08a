#include "qm_threads.h"

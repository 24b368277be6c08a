#pragma once
#include "qm_kernel_set.h"
#include "qm_functions.h"

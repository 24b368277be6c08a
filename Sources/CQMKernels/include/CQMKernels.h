#pragma once
#include "qm_kernel_set.h"
#include "qm_functions.h"
#include "qm_layout.h"

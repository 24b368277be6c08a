#pragma once
#include "qm_kernel_set.h"

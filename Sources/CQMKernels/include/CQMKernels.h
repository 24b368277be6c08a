#pragma once
#include "qm_kernel_set.h"
#include "qm_functions.h"
#include "qm_layout.h"
#include "qm_elementwise.h"
#include "qm_quantize.h"
#include "qm_product.h"

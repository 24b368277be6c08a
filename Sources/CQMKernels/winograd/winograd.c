#include "qm_winograd.h"

#include "../product/product_set.h"

const qm_winograd *qm_winograd_int8(qm_kernel_set set) { return qm_products(set)->winograd_i8; }

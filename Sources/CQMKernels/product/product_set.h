// The products of one instruction set.
#pragma once
#include "../targets/built_sets.h"
#include "qm_product.h"
#include "qm_winograd.h"

/// Kernels that a set does not have are NULL.
typedef struct {
  /// Columns of one vector: the largest number of columns of n8.
  int64_t lanes;
  const qm_product *f32, *i8, *i16;
  /// Indexed by the bits of the weights.
  const qm_product *i8_bytes[9];
  const qm_product *i8_packed_2, *i8_packed_4;
  /// For up to QM_N4_COLUMNS columns, and for up to `lanes`.
  const qm_product *n4_f32, *n4_i8, *n4_i16;
  const qm_product *n8_f32, *n8_i8, *n8_i16;
  /// As n8_i8, for weights of up to 8 bits.
  const qm_product *n8_bytes;
  const qm_product *depthwise_f32, *depthwise_i8;
  const qm_winograd *winograd_i8;
} qm_product_set;

#define QM_DECLARE(set, base, is_available) extern const qm_product_set qm_products_##set;
QM_BUILT_SETS(QM_DECLARE)
#undef QM_DECLARE

/// The products of a set; those of the portable set if this build does not contain the set.
static inline const qm_product_set *qm_products(qm_kernel_set set) {
  static const qm_product_set *const products[] = {
#define QM_ROW(set, base, is_available) [QM_KERNELS_##set] = &qm_products_##set,
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return products[qm_built_set(set)];
}

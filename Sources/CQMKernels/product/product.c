// Chooses the product kernel.
#include "product_set.h"

#include <stddef.h>

const qm_product *qm_product_float32(qm_kernel_set set) { return qm_products(set)->f32; }

const qm_product *qm_product_int8(qm_kernel_set set, int32_t weight_bits) {
  const qm_product_set *products = qm_products(set);
  const qm_product *bytes =
      weight_bits >= 0 && weight_bits <= 8 ? products->i8_bytes[weight_bits] : NULL;
  return bytes ? bytes : products->i8;
}

const qm_product *qm_product_int16(qm_kernel_set set) { return qm_products(set)->i16; }

static const qm_product *few_columns(
    const qm_product_set *products, int64_t columns, const qm_product *n4, const qm_product *n8) {
  if (columns <= QM_N4_COLUMNS && n4) return n4;
  return columns <= products->lanes ? n8 : NULL;
}

const qm_product *qm_product_float32_n(qm_kernel_set set, int64_t columns) {
  const qm_product_set *products = qm_products(set);
  return few_columns(products, columns, products->n4_f32, products->n8_f32);
}

// n4 takes a step for each column and vector of the depth of a tap, and adds up a vector for each
// column; n8_bytes takes one for four numbers of the depth.
static bool is_shallow(int64_t depth, int64_t columns) { return depth / 12 < columns; }

const qm_product *qm_product_int8_n(
    qm_kernel_set set, int32_t weight_bits, int64_t depth, int64_t columns) {
  const qm_product_set *products = qm_products(set);
  const qm_product *bytes = weight_bits <= 8 ? products->n8_bytes : NULL;
  const qm_product *n4 = bytes && is_shallow(depth, columns) ? NULL : products->n4_i8;
  return few_columns(products, columns, n4, bytes ? bytes : products->n8_i8);
}

const qm_product *qm_product_int16_n(qm_kernel_set set, int64_t columns) {
  const qm_product_set *products = qm_products(set);
  return few_columns(products, columns, products->n4_i16, products->n8_i16);
}

const qm_product *qm_product_packed_int8(qm_kernel_set set, int32_t weight_bits) {
  if (weight_bits > 4) return NULL;
  const qm_product_set *products = qm_products(set);
  return weight_bits <= 2 ? products->i8_packed_2 : products->i8_packed_4;
}

const qm_product *qm_depthwise_float32(qm_kernel_set set) {
  return qm_products(set)->depthwise_f32;
}

const qm_product *qm_depthwise_int8(qm_kernel_set set) { return qm_products(set)->depthwise_i8; }

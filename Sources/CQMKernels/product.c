// Which product computes what.
#include <stddef.h>

#include "product_sets.h"

#if defined(__x86_64__)
#define QM_CHOOSE(set, name)                      \
  switch (set) {                                  \
    case QM_AVX2: return &name##_avx2;            \
    case QM_AVX512: return &name##_avx512;        \
    default: return &name##_portable;             \
  }
#else
#define QM_CHOOSE(set, name) \
  (void)set;                 \
  return &name##_portable;
#endif

const qm_product *qm_product_float32(qm_kernel_set set) { QM_CHOOSE(set, qm_product_f32) }

const qm_product *qm_product_int8(qm_kernel_set set, int32_t weight_bits) {
#if defined(__x86_64__)
#define QM_BYTES_OF(set)                                                                        \
  {&qm_product_i8_2_##set, &qm_product_i8_3_##set, &qm_product_i8_4_##set,                      \
   &qm_product_i8_5_##set, &qm_product_i8_6_##set, &qm_product_i8_7_##set}
  static const qm_product *const by_bits[2][6] = {QM_BYTES_OF(avx2), QM_BYTES_OF(avx512)};
  if ((set == QM_AVX2 || set == QM_AVX512) && weight_bits >= 2 && weight_bits <= 7) {
    return by_bits[set == QM_AVX512][weight_bits - 2];
  }
#endif
  (void)weight_bits;
  QM_CHOOSE(set, qm_product_i8)
}

const qm_product *qm_product_int16(qm_kernel_set set) { QM_CHOOSE(set, qm_product_i16) }

// A vector has 8 or 16 columns.
#if defined(__x86_64__)
#define QM_CHOOSE_FEW(set, number, columns)                                                      \
  bool is_wide = set == QM_AVX512;                                                               \
  if ((set != QM_AVX2 && !is_wide) || columns > (is_wide ? 16 : 8)) return NULL;                 \
  if (columns <= QM_NARROW_COLUMNS) QM_CHOOSE_NARROW(number)                                     \
  return is_wide ? &qm_product_thin_##number##_avx512 : &qm_product_thin_##number##_avx2;
#define QM_CHOOSE_NARROW(number) \
  return is_wide ? &qm_product_narrow_##number##_avx512 : &qm_product_narrow_##number##_avx2;
#else
#define QM_CHOOSE_FEW(set, number, columns) \
  (void)set;                                \
  (void)columns;                            \
  return NULL;
#endif

const qm_product *qm_product_few_int8(qm_kernel_set set, int64_t columns) {
  QM_CHOOSE_FEW(set, i8, columns)
}

const qm_product *qm_product_few_int16(qm_kernel_set set, int64_t columns) {
  QM_CHOOSE_FEW(set, i16, columns)
}

#if defined(__x86_64__)
#undef QM_CHOOSE_NARROW
#define QM_CHOOSE_NARROW(number) \
  if (!is_wide) return &qm_product_narrow_##number##_avx2;
#endif
const qm_product *qm_product_few_float32(qm_kernel_set set, int64_t columns) {
  QM_CHOOSE_FEW(set, f32, columns)
}

const qm_product *qm_product_packed_int8(qm_kernel_set set, int32_t weight_bits) {
#if defined(__x86_64__)
  bool is_wide = set == QM_AVX512;
  if ((set == QM_AVX2 || is_wide) && weight_bits <= 4) {
    if (weight_bits <= 2) return is_wide ? &qm_product_packed_2_avx512 : &qm_product_packed_2_avx2;
    return is_wide ? &qm_product_packed_4_avx512 : &qm_product_packed_4_avx2;
  }
#endif
  (void)set;
  (void)weight_bits;
  return NULL;
}

const qm_product *qm_depthwise_float32(qm_kernel_set set) { QM_CHOOSE(set, qm_depthwise_f32) }

const qm_product *qm_depthwise_int8(qm_kernel_set set) { QM_CHOOSE(set, qm_depthwise_i8) }

const qm_winograd *qm_winograd_int8(qm_kernel_set set) { QM_CHOOSE(set, qm_winograd_i8) }

void qm_row_sums_int16(const int16_t *rows, int64_t count, int64_t depth, int32_t *sums) {
  for (int64_t row = 0; row < count; row++) {
    uint32_t sum = 0;
    for (int64_t k = 0; k < depth; k++) sum += (uint32_t)(int32_t)rows[row * depth + k];
    sums[row] = (int32_t)sum;
  }
}

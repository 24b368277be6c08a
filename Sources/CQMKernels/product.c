// Which product computes what.
#include <stddef.h>

#include "product_sets.h"

#if defined(__x86_64__)
#define QM_CHOOSE(set, name)                      \
  switch (set) {                                  \
    case QM_AVX2: return &name##_avx2;            \
    case QM_AVX_VNNI: return &name##_avxvnni;     \
    case QM_AVX512: return &name##_avx512;        \
    case QM_AVX512_VNNI: return &name##_vnni;     \
    default: return &name##_portable;             \
  }
// Where the portable set has no such way.
#define QM_CHOOSE_VECTORS(set, name)              \
  switch (set) {                                  \
    case QM_AVX2: return &name##_avx2;            \
    case QM_AVX_VNNI: return &name##_avxvnni;     \
    case QM_AVX512: return &name##_avx512;        \
    case QM_AVX512_VNNI: return &name##_vnni;     \
    default: return NULL;                         \
  }
#elif defined(__aarch64__)
#define QM_CHOOSE(set, name)                      \
  switch (set) {                                  \
    case QM_NEON: return &name##_neon;            \
    case QM_NEON_DOT: return &name##_neondot;     \
    default: return &name##_portable;             \
  }
#define QM_CHOOSE_VECTORS(set, name)              \
  switch (set) {                                  \
    case QM_NEON: return &name##_neon;            \
    case QM_NEON_DOT: return &name##_neondot;     \
    default: return NULL;                         \
  }
#else
#define QM_CHOOSE(set, name) \
  (void)set;                 \
  return &name##_portable;
#define QM_CHOOSE_VECTORS(set, name) \
  (void)set;                         \
  return NULL;
#endif

const qm_product *qm_product_float32(qm_kernel_set set) { QM_CHOOSE(set, qm_product_f32) }

const qm_product *qm_product_int8(qm_kernel_set set, int32_t weight_bits) {
#define QM_BYTES_OF(set)                                                                        \
  {&qm_product_i8_2_##set, &qm_product_i8_3_##set, &qm_product_i8_4_##set,                      \
   &qm_product_i8_5_##set, &qm_product_i8_6_##set, &qm_product_i8_7_##set}
#if defined(__x86_64__)
  if (weight_bits <= 8 && set == QM_AVX_VNNI) return &qm_product_i8_dot_avxvnni;
  if (weight_bits <= 8 && set == QM_AVX512_VNNI) return &qm_product_i8_dot_vnni;
  static const qm_product *const by_bits[2][6] = {QM_BYTES_OF(avx2), QM_BYTES_OF(avx512)};
  if ((set == QM_AVX2 || set == QM_AVX512) && weight_bits >= 2 && weight_bits <= 7) {
    return by_bits[set == QM_AVX512][weight_bits - 2];
  }
#elif defined(__aarch64__)
  if (weight_bits <= 8 && set == QM_NEON_DOT) return &qm_product_i8_dot_neondot;
  static const qm_product *const by_bits[6] = QM_BYTES_OF(neon);
  if (set == QM_NEON && weight_bits >= 2 && weight_bits <= 7) return by_bits[weight_bits - 2];
#endif
  (void)weight_bits;
  QM_CHOOSE(set, qm_product_i8)
}

const qm_product *qm_product_int16(qm_kernel_set set) { QM_CHOOSE(set, qm_product_i16) }

// Columns of one vector.
static int64_t lanes(qm_kernel_set set) {
  return set == QM_AVX512 || set == QM_AVX512_VNNI ? 16 : 8;
}

const qm_product *qm_product_few_int8(qm_kernel_set set, int64_t columns) {
  if (columns > lanes(set)) return NULL;
  if (columns <= QM_NARROW_COLUMNS) QM_CHOOSE_VECTORS(set, qm_product_narrow_i8)
  QM_CHOOSE_VECTORS(set, qm_product_thin_i8)
}

const qm_product *qm_product_few_int16(qm_kernel_set set, int64_t columns) {
  if (columns > lanes(set)) return NULL;
  if (columns <= QM_NARROW_COLUMNS) QM_CHOOSE_VECTORS(set, qm_product_narrow_i16)
  QM_CHOOSE_VECTORS(set, qm_product_thin_i16)
}

const qm_product *qm_product_few_float32(qm_kernel_set set, int64_t columns) {
  if (columns > lanes(set)) return NULL;
#if defined(__x86_64__)
  if (columns <= QM_NARROW_COLUMNS && set == QM_AVX2) return &qm_product_narrow_f32_avx2;
  if (columns <= QM_NARROW_COLUMNS && set == QM_AVX_VNNI) return &qm_product_narrow_f32_avxvnni;
#elif defined(__aarch64__)
  if (columns <= QM_NARROW_COLUMNS) QM_CHOOSE_VECTORS(set, qm_product_narrow_f32)
#endif
  QM_CHOOSE_VECTORS(set, qm_product_thin_f32)
}

const qm_product *qm_product_packed_int8(qm_kernel_set set, int32_t weight_bits) {
  if (weight_bits > 4) return NULL;
  if (weight_bits <= 2) QM_CHOOSE_VECTORS(set, qm_product_packed_2)
  QM_CHOOSE_VECTORS(set, qm_product_packed_4)
}

const qm_product *qm_depthwise_float32(qm_kernel_set set) { QM_CHOOSE(set, qm_depthwise_f32) }

const qm_product *qm_depthwise_int8(qm_kernel_set set) { QM_CHOOSE(set, qm_depthwise_i8) }

const qm_winograd *qm_winograd_int8(qm_kernel_set set) {
#if defined(__aarch64__)
  // Its dot products of bytes multiply four times as many numbers as products of words do.
  if (set == QM_NEON_DOT) return NULL;
  return set == QM_NEON ? &qm_winograd_i8_neon : &qm_winograd_i8_portable;
#else
  QM_CHOOSE(set, qm_winograd_i8)
#endif
}

void qm_row_sums_int16(const int16_t *rows, int64_t count, int64_t depth, int32_t *sums) {
  for (int64_t row = 0; row < count; row++) {
    uint32_t sum = 0;
    for (int64_t k = 0; k < depth; k++) sum += (uint32_t)(int32_t)rows[row * depth + k];
    sums[row] = (int32_t)sum;
  }
}

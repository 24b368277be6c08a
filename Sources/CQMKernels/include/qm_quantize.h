// Between float32 numbers and codes. Definitions: QMOperations/Numerics/Rounding.swift,
// Quantize.swift.
#pragma once
#include <stdint.h>
#include "qm_kernel_set.h"

/// How the elements of an operand are stored. The numbers are those of ElementType.
enum {
  QM_FLOAT32 = 1,
  QM_INT8 = 3,
  QM_UINT8 = 4,
  QM_INT16 = 5,
};

/// Type and quantization of the elements of an operand. For QM_FLOAT32, scale and zero point are
/// ignored.
typedef struct {
  int32_t element_type;
  float scale;
  int32_t zero_point;
} qm_codes;

/// Converts `count` elements to float32: `scale · Float(code − zero point)`.
typedef void (*qm_decode_kernel)(qm_codes type, const void *in, float *out, int64_t count);

/// Converts `count` float32 numbers to codes with `inverse_scale`; to QM_FLOAT32 it copies them. `in` and
/// `out` must not overlap: the last numbers may be read twice.
typedef void (*qm_encode_kernel)(qm_codes type, float inverse_scale, const float *in, void *out,
                                 int64_t count);

/// Widens `bounds` (low, high) to contain the elements; NaN is skipped.
typedef void (*qm_bounds_kernel)(const float *in, int64_t count, float bounds[2]);

/// Codes of int8 for each of `rows` rows of `length` numbers, with a scale and a zero point of its own
/// that cover them: QuantizationParameters(covering:). `parameters` is [rows][2].
typedef void (*qm_encode_rows_kernel)(
    const float *in, int64_t rows, int64_t length, int8_t *out, float *parameters);

/// `out[i] = table[in[i] + 128]`; `in` and `out` may be the same.
typedef void (*qm_table_kernel)(const int8_t table[256], const int8_t *in, int8_t *out,
                                int64_t count);

#define QM_DECLARE(set, base, is_available)                                             \
  void qm_decode_##base(qm_codes type, const void *in, float *out, int64_t count);      \
  void qm_encode_##base(qm_codes type, float inverse_scale, const float *in, void *out, \
                       int64_t count);                                                  \
  void qm_bounds_##base(const float *in, int64_t count, float bounds[2]);               \
  void qm_encode_rows_##base(const float *in, int64_t rows, int64_t length, int8_t *out, \
                             float *parameters);                                         \
  void qm_table_##base(const int8_t table[256], const int8_t *in, int8_t *out, int64_t count);
QM_KERNEL_SETS(QM_DECLARE)
#undef QM_DECLARE

typedef struct {
  qm_decode_kernel decode;
  qm_encode_kernel encode;
  qm_bounds_kernel bounds;
  qm_encode_rows_kernel encode_rows;
  qm_table_kernel table;
} qm_quantize_kernels;

/// The kernels of a set; those of the portable set if this build does not contain the set.
qm_quantize_kernels qm_quantize_for(qm_kernel_set set);

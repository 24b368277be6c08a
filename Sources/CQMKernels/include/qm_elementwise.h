// Functions of one and two tensors. Definitions: QMOperations/Unary.swift, Binary.swift.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "qm_functions.h"
#include "qm_kernel_set.h"
#include "qm_quantize.h"

/// The numbers are those of `BinaryFunction` in Swift.
enum {
  QM_ADD = 0,
  QM_SUBTRACT = 1,
  QM_MULTIPLY = 2,
  QM_DIVIDE = 3,
  QM_MINIMUM = 4,
  QM_MAXIMUM = 5,
  QM_POWER = 6,
  QM_REMAINDER = 7,
  QM_PARAMETRIC_RELU = 8,
};

/// How an operand's elements correspond to a run of output elements.
enum {
  QM_EACH = 0,  // one element for each output element
  QM_ONE = 1,   // one element for all
  QM_ROW = 2,   // `row` elements, repeated
};

/// A function of two operands.
typedef struct {
  int32_t function;
  int32_t left_pattern, right_pattern;
  qm_codes left, right, output;
  /// 1 / the output's scale.
  float inverse_scale;
  /// Whether `second_function` is applied to the result.
  bool has_second_function;
  qm_unary second_function;
  /// Length of the repeated row of an operand with QM_ROW; at most one operand has this pattern.
  int64_t row;
} qm_binary;

/// One run of `count` output elements. `out` may be an operand with QM_EACH of the same size.
typedef void (*qm_binary_kernel)(const qm_binary *binary, const void *left, const void *right,
                                 void *out, int64_t count);

/// A function of codes, to codes or float32. `out` may be `in` if the element sizes are equal.
typedef void (*qm_unary_codes_kernel)(qm_unary f, qm_codes input, qm_codes output,
                                      float inverse_scale, const void *in, void *out,
                                      int64_t count);

#define QM_DECLARE(set, base, is_available)                                                    \
  void qm_binary_##base(const qm_binary *binary, const void *left, const void *right,          \
                       void *out, int64_t count);                                              \
  void qm_unary_codes_##base(qm_unary f, qm_codes input, qm_codes output, float inverse_scale, \
                            const void *in, void *out, int64_t count);
QM_KERNEL_SETS(QM_DECLARE)
#undef QM_DECLARE

typedef struct {
  qm_binary_kernel binary;
  qm_unary_codes_kernel unary;
} qm_elementwise_kernels;

/// The kernels of a set; those of the portable set if this build does not contain the set.
qm_elementwise_kernels qm_elementwise_for(qm_kernel_set set);

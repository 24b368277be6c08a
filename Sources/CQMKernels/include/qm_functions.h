// Functions of one and two numbers. Definitions: QMOperations/Functions.swift.
#pragma once
#include <stdint.h>
#include "qm_kernel_set.h"

/// Functions of one number. The values are written in files and never change; they are those of
/// `UnaryFunction.code` in Swift.
enum {
  QM_RELU = 0,
  QM_CLIP = 1,               // first: minimum, second: maximum
  QM_LEAKY_RELU = 2,         // first: slope
  QM_THRESHOLDED_RELU = 3,   // first: threshold
  QM_ELU = 4,                // first: alpha
  QM_SELU = 5,               // first: alpha, second: gamma
  QM_CELU = 6,               // first: alpha
  QM_HARD_SIGMOID = 7,       // first: alpha, second: beta
  QM_HARD_SWISH = 8,
  QM_SIGMOID = 9,
  QM_SILU = 10,
  QM_TANH = 11,
  QM_ERF = 12,
  QM_GELU = 13,
  QM_GELU_TANH = 14,
  QM_SOFTPLUS = 15,
  QM_SOFTSIGN = 16,
  QM_MISH = 17,
  QM_EXPONENTIAL = 18,
  QM_LOGARITHM = 19,
  QM_SQUARE_ROOT = 20,
  QM_RECIPROCAL = 21,
  QM_SQUARE = 22,
  QM_ABSOLUTE = 23,
  QM_NEGATE = 24,
  QM_SIGN = 25,
  QM_FLOOR = 26,
  QM_CEILING = 27,
  QM_ROUND = 28,
  QM_SINE = 29,
  QM_COSINE = 30,
  QM_TANGENT = 31,
  QM_AFFINE = 32,            // first: scale, second: offset
};

/// A function of one number with its parameters.
typedef struct {
  int32_t function;
  float first, second;
} qm_unary;

/// `out[i] = f(in[i])`. `in` and `out` may be the same; otherwise they must not overlap.
typedef void (*qm_unary_f32_kernel)(qm_unary f, const float *in, float *out, int64_t count);

/// The kernel of a set; that of the portable set if this build does not contain the set.
qm_unary_f32_kernel qm_unary_f32_for(qm_kernel_set set);

/// `out[i] = x[i] to the power y[i]`. `out` may be `x` or `y`.
typedef void (*qm_power_f32_kernel)(const float *x, const float *y, float *out, int64_t count);

#define QM_DECLARE(set, base, is_available)                                               \
  void qm_unary_f32_##base(qm_unary f, const float *in, float *out, int64_t count);       \
  void qm_power_f32_##base(const float *x, const float *y, float *out, int64_t count);
QM_KERNEL_SETS(QM_DECLARE)
#undef QM_DECLARE

/// The kernel of a set; that of the portable set if this build does not contain the set.
qm_power_f32_kernel qm_power_f32_for(qm_kernel_set set);

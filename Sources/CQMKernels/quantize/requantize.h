// The only rounding from float32 numbers to codes, as in QMOperations/Numerics/Rounding.swift.
// Plain C, which clang vectorizes for the set that the including file is compiled for.
#pragma once
#include <stdint.h>
#include <string.h>
#pragma STDC FP_CONTRACT OFF

/// Scale, zero point and range of codes.
///
/// `low` and `high` are the lowest and the highest code minus the zero point. Clamping to them
/// before rounding gives the same codes as clamping after it (both bounds are integers, and
/// rounding is monotonic), and keeps magnitudes small enough for the rounding by addition below.
typedef struct {
  float inverse_scale;
  float low, high;
  int32_t zero_point;
} qm_encoding;

static inline qm_encoding qm_encoding_of(float inverse_scale, int32_t zero_point, int32_t lowest,
                                         int32_t highest) {
  qm_encoding encoding = {inverse_scale, (float)(lowest - zero_point),
                          (float)(highest - zero_point), zero_point};
  return encoding;
}

/// The code of `number`; NaN becomes the lowest code.
///
/// Adding 1.5 · 2²³ to a number below 2²² in magnitude rounds it to the nearest integer, ties to
/// even, and leaves the integer in the low bits.
static inline int32_t qm_encode(float number, qm_encoding encoding) {
  float value = number * encoding.inverse_scale;
  value = value > encoding.low ? value : encoding.low;
  value = value < encoding.high ? value : encoding.high;
  value = value + 0x1.8p23f;
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits - 0x4B400000 + encoding.zero_point;
}

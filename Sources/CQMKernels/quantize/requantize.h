// The one rounding from real numbers to codes; the twin of Requantization.swift.
// Plain C that clang vectorises for whatever set the including file is compiled for.
#pragma once
#include <stdint.h>
#include <string.h>
#pragma STDC FP_CONTRACT OFF

/// One affine grid of codes.
///
/// `low` and `high` are the lowest and the highest code minus the zero point. Clamping to them
/// before the rounding gives the same codes as clamping after it (both bounds are integers, and
/// rounding is monotonic), and keeps the rounding within reach of the addition below.
typedef struct {
  float inverse_scale;
  float low, high;
  int32_t zero_point;
} qm_grid;

static inline qm_grid qm_grid_of(float inverse_scale, int32_t zero_point, int32_t lowest,
                                 int32_t highest) {
  qm_grid grid = {inverse_scale, (float)(lowest - zero_point), (float)(highest - zero_point),
                  zero_point};
  return grid;
}

/// The code of `real`; NaN becomes the lowest.
///
/// Adding 1.5 · 2²³ to a number below 2²² in magnitude rounds it to the nearest integer, halves
/// to even, and leaves the integer in the low bits.
static inline int32_t qm_encode(float real, qm_grid grid) {
  float value = real * grid.inverse_scale;
  value = value > grid.low ? value : grid.low;
  value = value < grid.high ? value : grid.high;
  value = value + 0x1.8p23f;
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits - 0x4B400000 + grid.zero_point;
}

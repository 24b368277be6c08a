// Convolution with a 3 × 3 window and stride 1 by Winograd's F(4 × 4, 3 × 3), exact in integers.
//
// Each row of the weight transform is scaled to integers (by 4, 6, 6, 24, 24 and 1). Transformed
// weights are within 7 · 7 · 128 and transformed inputs within 10 · 10 · 255 in magnitude; both fit
// 16 bits. Products are summed modulo 2^32. The output transform removes the scales except for a
// factor of 576 = 64 · 9; multiplication by the inverse of 9 modulo 2^32 and a shift by 6 give the
// sum if its magnitude is less than 2^25, which the caller must prove.
#pragma once
#include <stdint.h>

#include "qm_product.h"

/// Sums of a convolution must be less than this in magnitude.
#define QM_WINOGRAD_BOUND 33554432  // 2^25
/// Positions along each axis of a tile of outputs.
#define QM_WINOGRAD_TILE 4

/// Some of the tiles of one sample, numbered row-major, and all columns of their outputs.
typedef struct {
  /// Codes, [height][width][channels].
  const int8_t *input;
  int64_t height, width, channels;
  int32_t zero_point;
  /// Positions of padding before the first of each axis.
  int64_t before_y, before_x;
  int64_t output_height, output_width, columns;
  int64_t first_tile, tile_count;
  /// Made by `pack`.
  const void *weights;
  /// The epilogue at the output's first element; without row parameters and row corrections.
  qm_epilogue epilogue;
  /// `scratch_bytes` bytes, aligned to 64.
  void *scratch;
} qm_winograd_block;

typedef struct {
  const char *name;
  int64_t (*packed_bytes)(int64_t channels, int64_t columns);
  /// - Parameter weights: [columns][3][3][channels].
  void (*pack)(const int8_t *weights, int64_t channels, int64_t columns, void *packed);
  int64_t (*scratch_bytes)(int64_t channels, int64_t tile_count);
  void (*convolve)(const qm_winograd_block *block);
} qm_winograd;

/// NULL if ordinary convolution is faster in this set.
const qm_winograd *qm_winograd_int8(qm_kernel_set set);

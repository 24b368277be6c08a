// Products and convolutions: sums of activations times weights over taps, with their epilogue.
//
//   accumulator[row][column] = Σ over taps, Σ over depth:
//       input[place(row) + taps[tap] + k] · weights[column][tap][k]
//
// A matrix product has one tap at 0; a convolution has one per position of its window (or per row
// of its window, where the positions of a row follow each other in memory). The order of the sum
// is the one written: taps outside, depth inside, both ascending. In float each step is one fused
// multiply-add and the sum begins with +0; in integers the sum is exact modulo 2^32.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "qm_functions.h"
#include "qm_kernel_set.h"

typedef enum qm_number {
  QM_NUMBER_NONE = 0,
  QM_NUMBER_FLOAT32 = 1,
  QM_NUMBER_INT8 = 2,   // codes
  QM_NUMBER_INT16 = 3,  // codes
} qm_number;

/// What is done to an accumulator. Definition: QMOperations/Epilogue.swift.
/// `column` counts from the first column of the block; arrays need not reach beyond the last.
typedef struct {
  /// Integer products: subtracted from every accumulator of the row; or NULL.
  const int32_t *row_corrections;
  /// Integer products: added to the accumulator; or NULL.
  const int32_t *integer_bias;
  /// Integer products: by column.
  const float *multipliers;
  /// Pairs, the first of which the multipliers of the row are multiplied by; or NULL.
  const float *row_parameters;
  /// By column; or NULL.
  const float *bias;
  /// Laid out as the output.
  const void *residual;
  qm_number residual_number;
  float residual_scale;
  int32_t residual_zero_point;
  bool has_function;
  qm_unary function;
  /// Behind `function`.
  bool has_then;
  qm_unary then;
  void *output;
  qm_number output_number;
  float inverse_scale;
  int32_t zero_point;
} qm_epilogue;

/// A block of rows and columns. Rows are numbered row-major over three axes; addresses are linear
/// in each. Strides and offsets count elements.
typedef struct {
  const void *input;
  int64_t extents[3];
  int64_t input_strides[3];
  int64_t output_strides[3];
  const int64_t *taps;
  int64_t tap_count;
  int64_t depth;
  /// Panels, the first of which holds the block's first column.
  const void *weights;
  int64_t columns;
  /// Depthwise: from the channels of a panel in the input to those of the next.
  int64_t panel_stride;
  /// Of the input, where the product reads codes and `row_parameters` do not say.
  int32_t zero_point;
  qm_epilogue epilogue;
} qm_product_block;

/// Weights before packing: element (tap, k, column) lies at the sum of the products with strides.
typedef struct {
  const void *elements;
  int64_t taps, depth, columns;
  int64_t tap_stride, depth_stride, column_stride;
} qm_weights;

/// A tile of an input with channels last, copied with what lies outside the input as the number 0.
typedef struct {
  const void *input;
  int64_t input_extents[3];
  /// Of the tile's first element in the input; may be negative.
  int64_t origin[3];
  int64_t extents[3];
  int64_t channels;
  /// Elements from one position of the tile to the next; what lies between is set to 0.
  int64_t pitch;
  /// The code that stands for 0. Products that read codes use it for what lies outside only.
  int32_t zero_point;
  void *output;
} qm_input_tile;

/// One way to compute products: a number format, an instruction set.
typedef struct {
  const char *name;
  /// Columns of a panel of packed weights.
  int32_t columns;
  /// Bytes of one element of `qm_product_block.input`.
  int32_t input_bytes;
  /// Bytes that `prepare` writes and `multiply` reads beyond the elements.
  int32_t slack_bytes;
  /// Whether `prepare` writes codes from −128 on and leaves it to the epilogue to take off what
  /// the zero point adds to a sum; otherwise it writes codes less their zero point.
  bool reads_codes;
  /// Bytes of one packed panel.
  int64_t (*panel_bytes)(int64_t taps, int64_t depth);
  void (*pack)(const qm_weights *weights, void *panels);
  void (*prepare)(const qm_input_tile *tile);
  void (*multiply)(const qm_product_block *block);
  /// Depthwise: whether `prepare` writes [z][y][panel][x][columns of a panel], so that what is read
  /// for a panel lies together; otherwise [z][y][x][channels, to a pitch].
  bool splits_panels;
} qm_product;

/// float32 × float32.
const qm_product *qm_product_float32(qm_kernel_set set);
/// int8 codes × signed weights of the given width. With more than 8 bits `prepare` writes codes less
/// their zero point, 16 bits each.
const qm_product *qm_product_int8(qm_kernel_set set, int32_t weight_bits);

/// int16 codes × signed weights of up to 8 bits, both around 0.
const qm_product *qm_product_int16(qm_kernel_set set);

/// The same with tiles that are narrower than a panel, for weights of few columns, all of which a
/// block has; NULL where the set has none, or the columns are more.
const qm_product *qm_product_float32_n(qm_kernel_set set, int64_t columns);
const qm_product *qm_product_int8_n(qm_kernel_set set, int64_t columns);
const qm_product *qm_product_int16_n(qm_kernel_set set, int64_t columns);
/// Most columns of the narrowest tile, n4: its vectors do not go along the columns.
#define QM_N4_COLUMNS 4

/// The same for matrices of few rows, with weights that stay packed in memory; NULL where the set
/// has no such way, or the width is no gain. Blocks have one tap.
const qm_product *qm_product_packed_int8(qm_kernel_set set, int32_t weight_bits);

/// The same over columns that do not mix: channel `column` of the input meets weight
/// [column][tap]. The input has a pitch of whole panels; a panel of weights is [tap][columns].
const qm_product *qm_depthwise_float32(qm_kernel_set set);
const qm_product *qm_depthwise_int8(qm_kernel_set set);

/// sums[row] = Σ rows[row][k], of int16 rows that follow each other.
void qm_row_sums_int16(const int16_t *rows, int64_t count, int64_t depth, int32_t *sums);

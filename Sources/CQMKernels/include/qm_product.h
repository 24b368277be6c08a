// Products and convolutions: sums of activations times weights over taps, with an epilogue.
//
//   accumulator[row][column] = Σ over taps, Σ over depth:
//       input[place(row) + taps[tap] + k] · weights[column][tap][k]
//
// A matrix product has one tap at 0; a convolution has one per position of its window (or per row
// of its window, if the positions of a row are contiguous in memory). The order of the sum is as
// written: taps outside, depth inside, both ascending. In float32, each step is one fused
// multiply-add, and the sum starts with +0; in integers, the sum is exact modulo 2^32.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "qm_functions.h"
#include "qm_kernel_set.h"

/// The type of the numbers of a residual or an output.
typedef enum qm_number {
  QM_NUMBER_NONE = 0,
  QM_NUMBER_FLOAT32 = 1,
  QM_NUMBER_INT8 = 2,   // codes
  QM_NUMBER_INT16 = 3,  // codes
} qm_number;

/// The steps from an accumulator to the stored element. Definition: QMOperations/Epilogue.swift.
/// Arrays by column start with the block's first column and need not reach beyond its last.
typedef struct {
  /// Integer products: one number per row, subtracted from its accumulators; or NULL.
  const int32_t *row_corrections;
  /// Integer products: one number per column, added to the accumulator; or NULL.
  const int32_t *integer_bias;
  /// Integer products: one multiplier per column.
  const float *multipliers;
  /// A pair per row, (scale, zero point): the row's multipliers are multiplied by the scale; or
  /// NULL.
  const float *row_parameters;
  /// One number per column; or NULL.
  const float *bias;
  /// In the layout of the output.
  const void *residual;
  qm_number residual_number;
  float residual_scale;
  int32_t residual_zero_point;
  bool has_function;
  qm_unary function;
  /// Applied after `function`.
  bool has_second_function;
  qm_unary second_function;
  void *output;
  qm_number output_number;
  float inverse_scale;
  int32_t zero_point;
} qm_epilogue;

/// A block of rows and columns. Rows are numbered in row-major order over three axes, each with its
/// own stride. Strides and offsets count elements.
typedef struct {
  const void *input;
  int64_t extents[3];
  int64_t input_strides[3];
  int64_t output_strides[3];
  const int64_t *taps;
  int64_t tap_count;
  int64_t depth;
  /// Panels; the first one begins with the block's first column.
  const void *weights;
  int64_t columns;
  /// Depthwise: elements from the channels of a panel in the input to those of the next.
  int64_t panel_stride;
  /// Zero point of the input, for products that read codes, unless `row_parameters` has it.
  int32_t zero_point;
  qm_epilogue epilogue;
} qm_product_block;

/// Weights before packing: element (tap, k, column) is at
/// tap · tap_stride + k · depth_stride + column · column_stride.
typedef struct {
  const void *elements;
  int64_t taps, depth, columns;
  int64_t tap_stride, depth_stride, column_stride;
} qm_weights;

/// A tile of an input with channels last, to be copied; positions outside the input represent the
/// number 0.
typedef struct {
  const void *input;
  int64_t input_extents[3];
  /// Position of the tile's first element in the input; may be negative.
  int64_t origin[3];
  int64_t extents[3];
  int64_t channels;
  /// Elements from one position of the tile to the next; those beyond the channels are set to 0.
  int64_t pitch;
  /// The code that represents 0. Products that read codes use it only for positions outside.
  int32_t zero_point;
  void *output;
} qm_input_tile;

/// The functions of one product kernel, for one number format and one instruction set.
typedef struct {
  const char *name;
  /// Number of columns of a panel of packed weights.
  int32_t columns;
  /// Bytes of one element of `qm_product_block.input`.
  int32_t input_bytes;
  /// Bytes that `prepare` writes and `multiply` reads beyond the elements.
  int32_t slack_bytes;
  /// True: input codes stay unshifted, `multiply` sums code + 128, and the epilogue subtracts
  /// (zero_point + 128) · Σ weights. False: `prepare` subtracts the zero point.
  bool reads_codes;
  /// Bytes of one packed panel.
  int64_t (*panel_bytes)(int64_t taps, int64_t depth);
  void (*pack)(const qm_weights *weights, void *panels);
  void (*prepare)(const qm_input_tile *tile);
  void (*multiply)(const qm_product_block *block);
  /// sums[row] = Σ over the depth of what `prepare` wrote for consecutive rows, as numbers: of codes
  /// where the product reads codes, else of codes minus their zero point. NULL for float32.
  void (*row_sums)(const void *rows, int64_t count, int64_t depth, int32_t *sums);
  /// Depthwise: whether `prepare` writes [z][y][panel][x][columns of a panel], so that the elements
  /// for a panel are contiguous; otherwise it writes [z][y][x][channels, padded to the pitch].
  bool splits_panels;
} qm_product;

/// float32 × float32.
const qm_product *qm_product_float32(qm_kernel_set set);
/// int8 codes × signed weights of the given width. With more than 8 bits, `prepare` writes codes
/// minus their zero point, 16 bits each.
const qm_product *qm_product_int8(qm_kernel_set set, int32_t weight_bits);

/// int16 codes × signed weights of up to 8 bits, both with zero point 0.
const qm_product *qm_product_int16(qm_kernel_set set);

/// The same for weights of few columns, with smaller panels; a block has all columns. NULL if the
/// set has no such kernel, or there are more columns.
const qm_product *qm_product_float32_n(qm_kernel_set set, int64_t columns);
const qm_product *qm_product_int8_n(
    qm_kernel_set set, int32_t weight_bits, int64_t depth, int64_t columns);
const qm_product *qm_product_int16_n(qm_kernel_set set, int64_t columns);
/// Largest number of columns of the kernels n4, whose vectors do not run along the columns.
#define QM_N4_COLUMNS 4

/// The same for matrices of few rows, with weights that stay packed in memory; NULL if the set has
/// no such kernel, or it is no faster for this width. Blocks have one tap.
const qm_product *qm_product_packed_int8(qm_kernel_set set, int32_t weight_bits);

/// Depthwise convolution: channel `column` of the input is multiplied by weight [column][tap]. The
/// input has a pitch of whole panels; a panel of weights is [tap][columns].
const qm_product *qm_depthwise_float32(qm_kernel_set set);
const qm_product *qm_depthwise_int8(qm_kernel_set set);

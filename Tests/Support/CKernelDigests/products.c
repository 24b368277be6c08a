// Products, convolutions and depthwise convolutions, with every epilogue.
#include "cases.h"
#include "qm_product.h"
#include "qm_winograd.h"

/// A convolution with channels last; a matrix product is one with a window of one position.
typedef struct {
  int64_t height, width, channels;
  int64_t window_y, window_x, stride, before;
  int64_t columns;
  bool is_depthwise;
  /// Whether the positions in a row of the window are merged into the depth.
  bool merges;
  /// Unused elements between two positions of the output.
  int64_t gap;
} geometry;

static geometry matrix(int64_t rows, int64_t depth, int64_t columns) {
  geometry g = {.height = 1, .width = rows, .channels = depth, .window_y = 1, .window_x = 1,
                .stride = 1, .columns = columns};
  return g;
}

static bool is_matrix(geometry g) {
  return g.height == 1 && g.window_y * g.window_x == 1 && g.stride == 1;
}
static int64_t output_extent(int64_t input, int64_t window, geometry g) {
  return (input + 2 * g.before - window) / g.stride + 1;
}
static int64_t output_height(geometry g) { return output_extent(g.height, g.window_y, g); }
static int64_t output_width(geometry g) { return output_extent(g.width, g.window_x, g); }

typedef struct {
  qm_number number;
  const void *input;
  int32_t zero_point;
  /// [columns][taps][depth], or [depth][columns].
  const void *weights;
  bool is_transposed;
} operands;

static const int64_t limit_numbers[] = {0, 1, 8, 13, 11, 3, 32};

static qm_unary random_unary(cases *c, bool any) {
  int64_t which = random_below(c, any ? 7 : 3);
  qm_unary f = {(int32_t)limit_numbers[which], -0.5f, 1.5f};
  return f;
}

/// - Parameter sum: a typical sum, from which the scale of the output is chosen.
static qm_epilogue random_epilogue(
    cases *c, geometry g, qm_number number, float sum, bool rows_differ) {
  int64_t columns = g.columns, rows = output_height(g) * output_width(g);
  int64_t size = rows * (columns + g.gap);
  qm_epilogue end = {0};
  float real = sum;
  if (number != QM_NUMBER_FLOAT32) {
    float *multipliers = random_reals(c, columns);
    for (int64_t i = 0; i < columns; i++) {
      if (multipliers[i] == 0) multipliers[i] = 1;
      multipliers[i] = multipliers[i] / sum;
    }
    end.multipliers = multipliers;
    real = 2;
    if (random_bool(c)) {
      int32_t *bias = random_memory(c, 4 * columns);
      for (int64_t i = 0; i < columns; i++) bias[i] = bias[i] % ((int32_t)sum + 1);
      end.integer_bias = bias;
    }
    if (rows_differ) {
      float *parameters = random_reals(c, 2 * rows);
      for (int64_t i = 0; i < rows; i++) parameters[2 * i + 1] = (float)random_in(c, -128, 127);
      end.row_parameters = parameters;
    }
    if (rows_differ && random_bool(c)) end.row_corrections = random_memory(c, 4 * rows);
  }
  if (random_bool(c)) end.bias = random_reals(c, columns);
  switch (random_below(c, 4)) {
    case 0:
      end.residual = random_floats(c, size);
      end.residual_number = QM_NUMBER_FLOAT32;
      break;
    case 1:
      end.residual = random_bytes(c, size, -128, 127);
      end.residual_number = QM_NUMBER_INT8;
      end.residual_scale = 0.01f;
      end.residual_zero_point = (int32_t)random_in(c, -128, 127);
      break;
    default: break;
  }
  if (random_bool(c)) {
    end.has_function = true;
    end.function = random_unary(c, random_bool(c));
    if (random_below(c, 4) == 0) {
      end.has_second_function = true;
      end.second_function = random_unary(c, true);
    }
  }
  static const qm_number numbers[] = {
      QM_NUMBER_INT8, QM_NUMBER_INT8, QM_NUMBER_FLOAT32, QM_NUMBER_INT16};
  end.output_number = numbers[random_below(c, 4)];
  bool is_word = end.output_number == QM_NUMBER_INT16;
  end.inverse_scale = (is_word ? 10000.0f : 60.0f) / real;
  end.zero_point = (int32_t)(is_word ? random_in(c, -500, 500) : random_in(c, -128, 127));
  return end;
}

static int64_t output_bytes(geometry g, qm_number number) {
  int64_t size = number == QM_NUMBER_FLOAT32 ? 4 : number == QM_NUMBER_INT16 ? 2 : 1;
  return output_height(g) * output_width(g) * (g.columns + g.gap) * size;
}

static int64_t depth_of_tap(geometry g) {
  return g.is_depthwise ? 1 : g.channels * (g.merges ? g.window_x : 1);
}

static void convolve(
    cases *c, const qm_product *table, geometry g, operands of, qm_epilogue end) {
  bool merges = g.merges && !g.is_depthwise;
  int64_t taps = g.window_y * (merges ? 1 : g.window_x);
  int64_t depth = depth_of_tap(g);
  int64_t panels = (g.columns + table->columns - 1) / table->columns;
  qm_weights weights = {
      of.weights, taps, depth, g.columns, depth, 1, taps * depth,
  };
  if (of.is_transposed) {
    weights.depth_stride = g.columns;
    weights.column_stride = 1;
  }
  void *packed = exact_memory(c, panels * table->panel_bytes(taps, depth));
  table->pack(&weights, packed);

  int64_t high = output_height(g), wide = output_width(g);
  int64_t box_height = (high - 1) * g.stride + g.window_y;
  int64_t box_width = (wide - 1) * g.stride + g.window_x;
  int64_t pitch = g.is_depthwise ? panels * table->columns : g.channels;
  char *prepared =
      exact_memory(c, box_height * box_width * pitch * table->input_bytes + table->slack_bytes);
  qm_input_tile box = {
      .input = of.input,
      .input_extents = {1, g.height, g.width},
      .origin = {0, -g.before, -g.before},
      .extents = {1, box_height, box_width},
      .channels = g.channels,
      .pitch = pitch,
      .zero_point = of.zero_point,
      .output = prepared,
  };
  if (end.row_parameters && !table->reads_codes) {
    int64_t size = of.number == QM_NUMBER_INT16 ? 2 : 1;
    for (int64_t row = 0; row < g.width; row++) {
      qm_input_tile one = box;
      one.input = (const char *)of.input + row * g.channels * size;
      one.input_extents[2] = one.extents[2] = 1;
      one.zero_point = of.number == QM_NUMBER_INT16 ? 0 : (int32_t)end.row_parameters[2 * row + 1];
      one.output = prepared + row * pitch * table->input_bytes;
      table->prepare(&one);
    }
  } else {
    table->prepare(&box);
  }

  int64_t across = table->splits_panels ? table->columns : pitch;
  int64_t offsets[128];
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t y = merges ? tap : tap / g.window_x, x = merges ? 0 : tap % g.window_x;
    offsets[tap] = y * box_width * pitch + x * across;
  }
  int64_t step = g.columns + g.gap;
  qm_product_block block = {
      .input = prepared,
      .extents = {1, high, wide},
      .input_strides = {0, g.stride * box_width * pitch, g.stride * across},
      .output_strides = {0, wide * step, step},
      .taps = offsets,
      .tap_count = taps,
      .depth = depth,
      .weights = packed,
      .columns = g.columns,
      .panel_stride = table->splits_panels ? box_width * table->columns : table->columns,
      .zero_point = of.zero_point,
      .epilogue = end,
  };
  table->multiply(&block);
}

static operands random_operands(cases *c, geometry g, qm_number number, int bits) {
  int64_t inputs = g.height * g.width * g.channels;
  int64_t depth = g.is_depthwise ? 1 : g.channels;
  int64_t weights = g.columns * g.window_y * g.window_x * depth;
  operands of = {.number = number, .is_transposed = is_matrix(g) && !g.is_depthwise && random_bool(c)};
  if (number == QM_NUMBER_FLOAT32) {
    of.input = random_below(c, 4) == 0 ? random_floats(c, inputs) : random_reals(c, inputs);
    of.weights = random_reals(c, weights);
    return of;
  }
  int32_t least = bits > 8 ? -128 : -(1 << (bits - 1));
  if (number == QM_NUMBER_INT16) {
    of.input = random_words(c, inputs, -32768, 32767);
  } else {
    int8_t *codes = random_bytes(c, inputs, -128, 127);
    of.zero_point = (int32_t)random_in(c, -128, 127);
    of.input = codes;
    // In one case of four, all terms of a sum have the same sign.
    if (random_below(c, 4) == 0) {
      memset(codes, random_bool(c) ? 127 : -128, (size_t)inputs);
      of.zero_point = random_bool(c) ? 127 : -128;
      int8_t *lowest = random_bytes(c, weights, least, least);
      of.weights = random_bool(c) ? lowest : random_bytes(c, weights, ~least, ~least);
      return of;
    }
  }
  of.weights = random_bytes(c, weights, least, ~least);
  return of;
}

static float typical_sum(geometry g, qm_number number, int bits) {
  float depth = (float)(g.window_y * g.window_x * (g.is_depthwise ? 1 : g.channels));
  if (number == QM_NUMBER_FLOAT32) return depth + 4;
  float weight = bits > 8 ? 128 : (float)(1 << (bits - 1));
  return depth * weight * (number == QM_NUMBER_INT16 ? 8192 : 64);
}

typedef enum { GENERAL, FEW_COLUMNS, PACKED, DEPTHWISE } variant;

/// The table that QMOperations chooses for the case; the general one if the variant has none.
static const qm_product *table_of(
    qm_kernel_set set, variant variant, geometry g, qm_number number, int bits) {
  const qm_product *table = NULL;
  if (variant == DEPTHWISE) {
    return number == QM_NUMBER_FLOAT32 ? qm_depthwise_float32(set) : qm_depthwise_int8(set);
  }
  if (number == QM_NUMBER_FLOAT32) {
    if (variant == FEW_COLUMNS) table = qm_product_float32_n(set, g.columns);
    return table ? table : qm_product_float32(set);
  }
  if (number == QM_NUMBER_INT16) {
    if (variant == FEW_COLUMNS) table = qm_product_int16_n(set, g.columns);
    return table ? table : qm_product_int16(set);
  }
  if (variant == FEW_COLUMNS) table = qm_product_int8_n(set, bits, depth_of_tap(g), g.columns);
  if (variant == PACKED) table = qm_product_packed_int8(set, bits);
  return table ? table : qm_product_int8(set, bits);
}

static void digest_case(
    cases *c, qm_kernel_set set, variant variant, geometry g, qm_number number, int bits) {
  operands of = random_operands(c, g, number, bits);
  bool rows_differ = is_matrix(g) && !g.is_depthwise && random_below(c, 4) == 0;
  qm_epilogue end =
      random_epilogue(c, g, number, typical_sum(g, number, bits), rows_differ);
  int64_t bytes = output_bytes(g, end.output_number);
  end.output = output_memory(c, bytes);
  convolve(c, table_of(set, variant, g, number, bits), g, of, end);
  digest_output(c, end.output, bytes);
  end_case(c);
}

static geometry random_window(cases *c, int64_t channels, int64_t columns) {
  geometry g = {.channels = channels, .columns = columns};
  g.window_y = random_in(c, 1, 3);
  g.window_x = random_in(c, 1, 5);
  g.stride = random_in(c, 1, 2);
  g.before = random_below(c, g.window_y);
  if (g.before >= g.window_x) g.before = g.window_x - 1;
  g.height = g.window_y + random_below(c, 6);
  g.width = g.window_x + random_below(c, 12);
  g.merges = random_bool(c);
  return g;
}

/// Each extent from 1 to the largest, with small other extents; every third extent for few columns,
/// for which this function is called many times.
static void digest_extents(
    cases *c, qm_kernel_set set, variant variant, qm_number number, int bits, int64_t most_rows,
    int64_t most_columns) {
  int64_t step = variant == FEW_COLUMNS ? 3 : 1;
  for (int64_t n = 1 + most_columns % step; n <= QM_LARGEST_SIZE; n += step) {
    geometry all[] = {
        matrix(n, random_in(c, 1, 24), random_in(c, 1, most_columns)),
        matrix(random_in(c, 1, most_rows), n, random_in(c, 1, most_columns)),
        matrix(random_in(c, 1, most_rows), random_in(c, 1, 24), n),
    };
    for (int i = 0; i < 3; i++) {
      if ((i == 0 && n > most_rows) || (i == 2 && n > most_columns)) continue;
      all[i].gap = random_below(c, 4) == 0 ? 3 : 0;
      digest_case(c, set, variant, all[i], number, bits);
    }
    if (variant == PACKED || n % 4 != 0) continue;
    digest_case(c, set, variant, random_window(c, random_in(c, 1, 9), random_in(c, 1, most_columns)),
                number, bits);
  }
  // Depths at which 16-bit sums must be widened more than once.
  for (int64_t depth = 300; depth <= 1200; depth += 300) {
    digest_case(c, set, variant, matrix(random_in(c, 1, 3), depth + random_below(c, 9),
                                    random_in(c, 1, most_columns)), number, bits);
  }
}

uint64_t digest_products_float32(qm_kernel_set set) {
  cases c = cases_of("products of float32");
  digest_extents(&c, set, GENERAL, QM_NUMBER_FLOAT32, 0, 67, 67);
  // One row and many panels.
  digest_case(&c, set, GENERAL, matrix(1, 40, 300), QM_NUMBER_FLOAT32, 0);
  return c.digest;
}

uint64_t digest_products_int8(qm_kernel_set set) {
  cases c = cases_of("products of int8");
  for (int bits = 2; bits <= 9; bits++) {
    digest_extents(&c, set, GENERAL, QM_NUMBER_INT8, bits, 67, 67);
    digest_case(&c, set, GENERAL, matrix(1, 200, 300), QM_NUMBER_INT8, bits);
  }
  return c.digest;
}

uint64_t digest_products_int16(qm_kernel_set set) {
  cases c = cases_of("products of int16");
  digest_extents(&c, set, GENERAL, QM_NUMBER_INT16, 8, 67, 67);
  digest_case(&c, set, GENERAL, matrix(1, 40, 300), QM_NUMBER_INT16, 8);
  return c.digest;
}

uint64_t digest_few_columns(qm_kernel_set set) {
  cases c = cases_of("products of few columns");
  for (int64_t columns = 1; columns <= 17; columns++) {
    digest_extents(&c, set, FEW_COLUMNS, QM_NUMBER_FLOAT32, 0, 67, columns);
    digest_extents(&c, set, FEW_COLUMNS, QM_NUMBER_INT8, 8, 67, columns);
    digest_extents(&c, set, FEW_COLUMNS, QM_NUMBER_INT16, 8, 67, columns);
  }
  return c.digest;
}

uint64_t digest_packed(qm_kernel_set set) {
  cases c = cases_of("products of packed weights");
  for (int bits = 2; bits <= 4; bits++) {
    digest_extents(&c, set, PACKED, QM_NUMBER_INT8, bits, 3, 67);
    digest_case(&c, set, PACKED, matrix(1, 700, 300), QM_NUMBER_INT8, bits);
  }
  return c.digest;
}

uint64_t digest_depthwise(qm_kernel_set set) {
  cases c = cases_of("depthwise");
  for (int64_t n = 1; n <= QM_LARGEST_SIZE; n++) {
    for (int i = 0; i < 4; i++) {
      geometry g = random_window(&c, n, n);
      g.is_depthwise = true;
      // Every other window is of a size with a specialized kernel. Some rows are longer than the
      // kernel's block, and some windows have more positions than the kernel takes at a time.
      int64_t side = i % 2 == 0 ? (n % 3 == 0 ? 5 : 3) : n % 16 == 5 ? 9 : 0;
      if (side > 0) {
        g.window_y = g.window_x = side;
        g.height += side;
        g.width += side;
      }
      if (n % 8 == 3) g.width += random_in(&c, 50, 150);
      digest_case(&c, set, DEPTHWISE, g, i < 2 ? QM_NUMBER_INT8 : QM_NUMBER_FLOAT32, 8);
    }
  }
  return c.digest;
}

uint64_t digest_winograd(qm_kernel_set set) {
  cases c = cases_of("Winograd");
  const qm_winograd *table = qm_winograd_int8(set);
  for (int64_t n = 1; n <= QM_LARGEST_SIZE; n++) {
    int bits = (int)(2 + n % 7);
    geometry g = {.channels = n, .columns = random_in(&c, 8, 40), .window_y = 3, .window_x = 3,
                  .stride = 1};
    if (n % 2 == 0) {
      g.columns = n;
      g.channels = random_in(&c, 8, 40);
    }
    g.before = random_below(&c, 3);
    g.height = random_in(&c, 3, 14);
    g.width = random_in(&c, 3, 14);
    operands of = random_operands(&c, g, QM_NUMBER_INT8, bits);
    qm_epilogue end =
        random_epilogue(&c, g, QM_NUMBER_INT8, typical_sum(g, QM_NUMBER_INT8, bits), false);
    int64_t bytes = output_bytes(g, end.output_number);
    end.output = output_memory(&c, bytes);
    int64_t tile_block = random_in(&c, 1, 24);
    if (table) {
      int64_t size = QM_WINOGRAD_TILE;
      int64_t tiles = (output_height(g) + size - 1) / size * ((output_width(g) + size - 1) / size);
      void *packed = exact_memory(&c, table->packed_bytes(g.channels, g.columns));
      table->pack(of.weights, g.channels, g.columns, packed);
      qm_winograd_block block = {
          .input = of.input,
          .height = g.height,
          .width = g.width,
          .channels = g.channels,
          .zero_point = of.zero_point,
          .before_y = g.before,
          .before_x = g.before,
          .output_height = output_height(g),
          .output_width = output_width(g),
          .columns = g.columns,
          .weights = packed,
          .epilogue = end,
          .scratch = scratch_memory(&c, table->scratch_bytes(g.channels, tile_block)),
      };
      for (int64_t first = 0; first < tiles; first += tile_block) {
        block.first_tile = first;
        block.tile_count = tiles - first < tile_block ? tiles - first : tile_block;
        table->convolve(&block);
      }
    } else {
      convolve(&c, qm_product_int8(set, bits), g, of, end);
    }
    digest_output(&c, end.output, bytes);
    end_case(&c);
  }
  return c.digest;
}

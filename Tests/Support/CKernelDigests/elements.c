// Element-wise functions, quantization and dequantization.
#include "cases.h"
#include "qm_cells.h"
#include "qm_elementwise.h"
#include "qm_functions.h"
#include "qm_quantize.h"

enum { FUNCTION_COUNT = QM_AFFINE + 1, BINARY_COUNT = QM_PARAMETRIC_RELU + 1 };

static qm_unary unary(cases *c, int32_t function) {
  static const float pairs[][2] = {{-0.5f, 1.5f}, {0.25f, 0.75f}, {1.75f, -2.0f}, {0, 6}};
  const float *pair = pairs[random_below(c, 4)];
  qm_unary f = {function, pair[0], pair[1]};
  return f;
}

static void digest_cells(cases *c, qm_cell_kernels cells) {
  for (int64_t hidden = 1; hidden <= QM_LARGEST_SIZE; hidden++) {
    for (int form = 0; form < 5; form++) {
      const float *of_input = random_floats(c, 4 * hidden);
      float *of_state = output_memory(c, 16 * hidden);
      float *h = output_memory(c, 4 * hidden), *other = output_memory(c, 4 * hidden);
      memcpy(of_state, random_floats(c, 4 * hidden), (size_t)(16 * hidden));
      memcpy(h, random_reals(c, hidden), (size_t)(4 * hidden));
      memcpy(other, random_reals(c, hidden), (size_t)(4 * hidden));
      switch (form) {
        case 0: cells.lstm(of_input, of_state, false, other, h, hidden); break;
        case 1: cells.lstm(of_input, of_state, true, other, h, hidden); break;
        case 2: cells.gru_reset_after(of_input, of_state, h, hidden); break;
        case 3: cells.gru_gates(of_input, of_state, h, other, hidden); break;
        default: cells.gru_state(of_input, of_state, h, hidden); break;
      }
      digest_output(c, of_state, 16 * hidden);
      digest_output(c, h, 4 * hidden);
      digest_output(c, other, 4 * hidden);
      end_case(c);
    }
  }
}

uint64_t digest_functions(qm_kernel_set set) {
  cases c = cases_of("functions");
  const qm_unary_f32_kernel kernel = qm_unary_f32_for(set);
  for (int32_t function = 0; function < FUNCTION_COUNT; function++) {
    for (int64_t count = 1; count <= QM_LARGEST_SIZE + 1; count++) {
      // The last case has many numbers of any magnitude.
      int64_t length = count > QM_LARGEST_SIZE ? 1500 : count;
      float *in = random_floats(&c, length);
      float *out = output_memory(&c, 4 * length);
      if (count > QM_LARGEST_SIZE) in = random_memory(&c, 4 * length);
      kernel(unary(&c, function), in, out, length);
      digest_output(&c, out, 4 * length);
      end_case(&c);
    }
  }
  const qm_power_f32_kernel power = qm_power_f32_for(set);
  for (int64_t count = 1; count <= QM_LARGEST_SIZE; count++) {
    float *x = random_floats(&c, count), *y = random_floats(&c, count);
    float *out = output_memory(&c, 4 * count);
    power(x, y, out, count);
    digest_output(&c, out, 4 * count);
    end_case(&c);
  }
  digest_cells(&c, qm_cells_for(set));
  return c.digest;
}

static const int32_t element_types[] = {QM_FLOAT32, QM_INT8, QM_INT8, QM_UINT8, QM_INT16};

static int64_t size_of(qm_codes type) {
  return type.element_type == QM_FLOAT32 ? 4 : type.element_type == QM_INT16 ? 2 : 1;
}

static qm_codes random_type(cases *c) {
  qm_codes type = {element_types[random_below(c, 5)], random_scale(c, -7, -4), 0};
  switch (type.element_type) {
    case QM_UINT8: type.zero_point = (int32_t)random_in(c, 0, 255); break;
    case QM_INT16: type.zero_point = (int32_t)random_in(c, -1000, 1000); break;
    default: type.zero_point = (int32_t)random_in(c, -128, 127); break;
  }
  return type;
}

static const void *random_elements(cases *c, qm_codes type, int64_t count) {
  switch (type.element_type) {
    case QM_FLOAT32: return random_floats(c, count);
    case QM_INT16: return random_words(c, count, -32768, 32767);
    default: return random_bytes(c, count, -128, 127);
  }
}

uint64_t digest_elementwise(qm_kernel_set set) {
  cases c = cases_of("elementwise");
  const qm_elementwise_kernels kernels = qm_elementwise_for(set);
  for (int64_t count = 1; count <= QM_LARGEST_SIZE; count++) {
    for (int32_t function = 0; function < 3 * BINARY_COUNT; function++) {
      qm_binary f = {
          .function = function % BINARY_COUNT,
          .left = random_type(&c),
          .right = random_type(&c),
          .output = random_type(&c),
          .row = 1,
      };
      int64_t length = count;
      int32_t pattern = (int32_t)random_below(&c, 3);
      if (pattern == QM_ROW) {
        f.row = count;
        length = count * random_in(&c, 1, 3);
        // A row longer than a tile, and tiles of many rows.
        if (count % 16 == 0) {
          f.row = random_bool(&c) ? 600 : 7;
          length = 1400 / f.row * f.row;
        }
      }
      if (random_bool(&c)) f.left_pattern = pattern;
      else f.right_pattern = pattern;
      f.inverse_scale = 1.0f / f.output.scale;
      f.has_second_function = random_bool(&c);
      f.second_function = unary(&c, (int32_t)random_below(&c, random_bool(&c) ? 2 : FUNCTION_COUNT));
      const void *left = random_elements(&c, f.left, length);
      const void *right = random_elements(&c, f.right, length);
      int64_t bytes = length * size_of(f.output);
      void *out = output_memory(&c, bytes);
      kernels.binary(&f, left, right, out, length);
      digest_output(&c, out, bytes);
      end_case(&c);
    }
    for (int i = 0; i < 4; i++) {
      qm_codes from = random_type(&c), to = random_type(&c);
      int64_t length = i == 0 && count % 16 == 0 ? 600 : count;
      const void *in = random_elements(&c, from, length);
      int64_t bytes = length * size_of(to);
      void *out = output_memory(&c, bytes);
      qm_unary f = unary(&c, (int32_t)random_below(&c, FUNCTION_COUNT));
      kernels.unary(f, from, to, 1.0f / to.scale, in, out, length);
      digest_output(&c, out, bytes);
      end_case(&c);
    }
  }
  return c.digest;
}

uint64_t digest_quantize(qm_kernel_set set) {
  cases c = cases_of("quantize");
  const qm_quantize_kernels kernels = qm_quantize_for(set);
  for (int64_t count = 1; count <= 4 * QM_LARGEST_SIZE; count++) {
    qm_codes type = random_type(&c);
    const void *codes = random_elements(&c, type, count);
    float *reals = output_memory(&c, 4 * count);
    kernels.decode(type, codes, reals, count);
    digest_output(&c, reals, 4 * count);

    const float *floats = random_floats(&c, count);
    void *encoded = output_memory(&c, count * size_of(type));
    kernels.encode(type, random_scale(&c, -4, 20), floats, encoded, count);
    digest_output(&c, encoded, count * size_of(type));

    float bounds[2] = {1, -1};
    kernels.bounds(floats, count, bounds);
    // The sign of a zero is not specified.
    bounds[0] += 0.0f;
    bounds[1] += 0.0f;
    digest_bytes(&c, bounds, sizeof bounds);

    int64_t rows = random_in(&c, 1, 3);
    const float *own = random_bool(&c) ? random_reals(&c, rows * count)
                                       : random_floats(&c, rows * count);
    int8_t *row_codes = output_memory(&c, rows * count);
    float *parameters = output_memory(&c, 8 * rows);
    kernels.encode_rows(own, rows, count, row_codes, parameters);
    digest_output(&c, row_codes, rows * count);
    digest_output(&c, parameters, 8 * rows);

    const int8_t *table = random_bytes(&c, 256, -128, 127);
    int8_t *found = output_memory(&c, count);
    memcpy(found, random_bytes(&c, count, -128, 127), (size_t)count);
    kernels.table(table, found, found, count);
    digest_output(&c, found, count);
    end_case(&c);
  }
  // Every code, and every 16-bit pattern as the upper half of a float32 number.
  int8_t all[256], found[256];
  for (int code = 0; code < 256; code++) all[code] = (int8_t)(code - 128);
  kernels.table(random_bytes(&c, 256, -128, 127), all, found, 256);
  digest_bytes(&c, found, 256);
  uint32_t *patterns = random_memory(&c, 4 << 16);
  for (uint32_t i = 0; i < 1 << 16; i++) patterns[i] = patterns[i] >> 16 | i << 16;
  int8_t *codes = output_memory(&c, 1 << 16);
  qm_codes type = {QM_INT8, 1.0f, -3};
  kernels.encode(type, 0.75f, (const float *)patterns, codes, 1 << 16);
  digest_output(&c, codes, 1 << 16);
  end_case(&c);
  return c.digest;
}

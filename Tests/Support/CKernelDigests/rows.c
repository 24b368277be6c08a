// Reductions, normalizations, pooling and changes of layout.
#include "cases.h"
#include "qm_layout.h"
#include "qm_normalization.h"
#include "qm_pooling.h"
#include "qm_reduction.h"

static int64_t size_of(int32_t element_type) {
  return element_type == QM_FLOAT32 ? 4 : element_type == QM_INT16 ? 2 : 1;
}

static const void *random_elements(cases *c, int32_t type, int64_t count) {
  if (type == QM_FLOAT32) {
    return random_below(c, 4) == 0 ? random_floats(c, count) : random_reals(c, count);
  }
  if (type == QM_INT16) return random_words(c, count, -32768, 32767);
  return random_bytes(c, count, -128, 127);
}

static qm_codes random_type(cases *c) {
  static const int32_t types[] = {QM_FLOAT32, QM_INT8, QM_UINT8, QM_INT16};
  qm_codes type = {types[random_below(c, 4)], random_scale(c, -8, -5), 0};
  type.zero_point = (int32_t)random_in(c, type.element_type == QM_UINT8 ? 0 : -128, 127);
  return type;
}

static void digest_reductions(
    cases *c, qm_reduction_kernels kernels, int64_t outer, int64_t count, int64_t inner) {
  int64_t items = outer * ((inner + QM_REDUCTION_BLOCK - 1) / QM_REDUCTION_BLOCK);
  for (int kind = QM_REDUCE_MEAN; kind <= QM_REDUCE_LOGARITHM_OF_SUM_OF_EXPONENTIALS; kind++) {
    if (kind == QM_REDUCE_LOGARITHM_OF_SUM_OF_EXPONENTIALS && inner != 1) continue;
    const float *in = random_elements(c, QM_FLOAT32, outer * count * inner);
    float *out = output_memory(c, 4 * outer * inner);
    kernels.reduce(kind, in, out, count, inner, 0, items, scratch_memory(c, 4 * count));
    digest_output(c, out, 4 * outer * inner);
    end_case(c);
  }
  static const int32_t types[] = {QM_INT8, QM_UINT8, QM_INT16};
  for (int i = 0; i < 3; i++) {
    const void *in = random_elements(c, types[i], outer * count * inner);
    int64_t *sums = output_memory(c, 8 * outer * inner);
    kernels.sum_codes(types[i], in, sums, count, inner, 0, items);
    digest_output(c, sums, 8 * outer * inner);
    for (int kind = QM_REDUCE_MAXIMUM; kind <= QM_REDUCE_MINIMUM; kind++) {
      int64_t bytes = outer * inner * size_of(types[i]);
      void *out = output_memory(c, bytes);
      kernels.extreme_codes(types[i], kind, in, out, count, inner, 0, items);
      digest_output(c, out, bytes);
    }
    end_case(c);
  }
}

uint64_t digest_reduction(qm_kernel_set set) {
  cases c = cases_of("reduction");
  const qm_reduction_kernels kernels = qm_reduction_for(set);
  for (int64_t n = 1; n <= QM_LARGEST_SIZE; n++) {
    digest_reductions(&c, kernels, random_in(&c, 1, 4), n, 1);
    digest_reductions(&c, kernels, random_in(&c, 1, 70), random_in(&c, 1, 9), 1);
    digest_reductions(&c, kernels, random_in(&c, 1, 3), random_in(&c, 1, 20), n);
  }
  return c.digest;
}

uint64_t digest_normalization(qm_kernel_set set) {
  cases c = cases_of("normalization");
  const qm_normalization_kernels kernels = qm_normalization_for(set);
  for (int64_t n = 1; n <= QM_LARGEST_SIZE; n++) {
    for (int i = 0; i < 10; i++) {
      qm_rows rows = {n, random_type(&c), random_type(&c), random_scale(&c, 4, 8)};
      int64_t count = random_in(&c, 1, 3);
      const void *in = random_elements(&c, rows.in_type.element_type, n * count);
      int64_t bytes = n * count * size_of(rows.out_type.element_type);
      void *out = output_memory(&c, bytes);
      float *scratch = scratch_memory(&c, 8 * n);
      if (i < 4) {
        kernels.softmax(i % 2 == 0, rows, in, out, 0, count, scratch);
      } else if (i < 8) {
        const float *scale = i % 2 == 0 ? random_reals(&c, n) : NULL;
        const float *bias = i / 2 % 2 == 0 ? random_reals(&c, n) : NULL;
        kernels.layer_normalization(rows, 1e-5f, in, scale, bias, out, 0, count, scratch);
      } else {
        // Channels as the last axis, or one channel per row.
        int64_t inner = i == 8 ? 1 : n + 1, channels = i == 8 ? n : 3;
        int64_t items = i == 8 ? count : channels * count;
        int64_t size = count * channels * inner;
        const float *x = random_floats(&c, size);
        const float *scale = random_reals(&c, channels), *offset = random_reals(&c, channels);
        bytes = 4 * size;
        out = output_memory(&c, bytes);
        kernels.scale_channels(x, out, scale, offset, channels, inner, 0, items);
      }
      digest_output(&c, out, bytes);
      end_case(&c);
    }
  }
  return c.digest;
}

static qm_window_axis random_axis(cases *c, int64_t largest) {
  qm_window_axis axis = {
      .input = random_in(c, 1, largest),
      .window = random_in(c, 1, 3),
      .stride = random_in(c, 1, 3),
      .dilation = random_in(c, 1, 2),
      .before = random_below(c, 3),
      .after = random_below(c, 3),
  };
  int64_t reach = axis.dilation * (axis.window - 1) + 1;
  if (axis.input + axis.before + axis.after < reach) axis.input = reach;
  axis.output = (axis.input + axis.before + axis.after - reach) / axis.stride + 1;
  return axis;
}

uint64_t digest_pooling(qm_kernel_set set) {
  cases c = cases_of("pooling");
  const qm_pooling_kernels kernels = qm_pooling_for(set);
  for (int64_t n = 1; n <= QM_LARGEST_SIZE; n++) {
    for (int i = 0; i < 8; i++) {
      bool is_planes = i > 5;
      qm_pooling p = {
          .kind = i % 3,
          .depth = {1, 1, 1, 1, 0, 0, 1},
          .height = random_axis(&c, 5),
          .width = random_axis(&c, is_planes ? n : 5),
          .channels = is_planes ? random_in(&c, 1, 3) : n,
          .in_type = random_type(&c),
          .out_type = random_type(&c),
          .inverse_scale = random_scale(&c, 4, 8),
      };
      if (i % 2 == 0) p.depth = random_axis(&c, 3);
      if (is_planes) p.in_type.element_type = QM_FLOAT32;
      if (is_planes || p.kind == QM_POOL_MAXIMUM) p.out_type = p.in_type;
      int64_t samples = random_in(&c, 1, 2);
      int64_t inputs = samples * p.depth.input * p.height.input * p.width.input * p.channels;
      int64_t lines = samples * p.depth.output * p.height.output;
      int64_t bytes =
          lines * p.width.output * p.channels * size_of(p.out_type.element_type);
      const void *in = random_elements(&c, p.in_type.element_type, inputs);
      void *out = output_memory(&c, bytes);
      if (is_planes) {
        kernels.planes(&p, in, out, 0, samples * p.channels);
      } else {
        kernels.rows(&p, in, out, 0, lines);
      }
      digest_output(&c, out, bytes);
      end_case(&c);
    }
  }
  return c.digest;
}

uint64_t digest_layout(qm_kernel_set set) {
  cases c = cases_of("layout");
  for (int64_t n = 1; n <= QM_LARGEST_SIZE; n++) {
    for (int i = 0; i < 12; i++) {
      int size = 1 << i % 4;
      int rank = (int)random_in(&c, 2, 4);
      ptrdiff_t extents[4], out_strides[4], in_strides[4];
      for (int axis = 0; axis < rank; axis++) extents[axis] = random_in(&c, 1, 4);
      extents[rank - 1] = i < 6 ? n : random_in(&c, 1, 20);
      extents[rank - 2] = i < 6 ? random_in(&c, 1, 20) : n;
      // The output is contiguous; the axes of the input are in random order.
      int order[4] = {0, 1, 2, 3};
      for (int axis = rank - 1; axis > 0; axis--) {
        int other = (int)random_below(&c, axis + 1), kept = order[axis];
        order[axis] = order[other];
        order[other] = kept;
      }
      ptrdiff_t out_bytes = size, in_bytes = size;
      for (int axis = rank - 1; axis >= 0; axis--) {
        out_strides[axis] = out_bytes;
        out_bytes *= extents[axis];
        in_strides[order[axis]] = in_bytes;
        in_bytes *= extents[order[axis]];
      }
      // One case of eight repeats the input along an axis.
      if (random_below(&c, 8) == 0) in_strides[random_below(&c, rank)] = 0;
      const char *in = random_memory(&c, in_bytes);
      char *out = output_memory(&c, out_bytes);
      ptrdiff_t rows = 1;
      for (int axis = 0; axis < rank - 1; axis++) rows *= extents[axis];
      ptrdiff_t half = random_below(&c, rows + 1);
      if (half > 0) {
        qm_copy_rows(set, rank, size, extents, out_strides, in_strides, out, in, 0, half);
      }
      if (half < rows) {
        qm_copy_rows(set, rank, size, extents, out_strides, in_strides, out, in, half, rows);
      }
      digest_output(&c, out, out_bytes);
      end_case(&c);
    }
  }
  return c.digest;
}

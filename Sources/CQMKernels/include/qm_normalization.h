// Softmax and normalizations. Definitions: QMOperations/Softmax.swift, Normalization.swift.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "qm_kernel_set.h"
#include "qm_quantize.h"

/// Types of rows of `count` elements. `inverse_scale` is 1 / the scale of the output's codes.
typedef struct {
  ptrdiff_t count;
  qm_codes in_type, out_type;
  float inverse_scale;
} qm_rows;

/// Softmax of rows first..<last, or its logarithm. `scratch`: 2 · count floats.
typedef void (*qm_softmax_kernel)(bool logarithm, qm_rows rows, const void *in, void *out,
                                  ptrdiff_t first, ptrdiff_t last, float *scratch);

/// Layer normalization of rows first..<last. `scale` and `bias`: `count` floats, or null.
/// `scratch`: 2 · count floats.
typedef void (*qm_layer_normalization_kernel)(qm_rows rows, float epsilon, const void *in,
                                              const float *scale, const float *bias, void *out,
                                              ptrdiff_t first, ptrdiff_t last, float *scratch);

/// `out = in · scale[channel] + offset[channel]`, two roundings. If `inner` is 1, an item is one
/// row of `channels` elements; otherwise it is one row of `inner` elements of the channel
/// item mod channels.
typedef void (*qm_scale_channels_kernel)(const float *in, float *out, const float *scale,
                                         const float *offset, ptrdiff_t channels, ptrdiff_t inner,
                                         ptrdiff_t first, ptrdiff_t last);

typedef struct {
  qm_softmax_kernel softmax;
  qm_layer_normalization_kernel layer_normalization;
  qm_scale_channels_kernel scale_channels;
} qm_normalization_kernels;

/// The kernels of a set; those of the portable set if this build does not contain the set.
qm_normalization_kernels qm_normalization_for(qm_kernel_set set);

// The largest element, or the mean, of each window. Definitions: QMOperations/Pooling.swift.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "qm_kernel_set.h"
#include "qm_quantize.h"

/// A window along one spatial axis, as WindowAxis in Swift.
typedef struct {
  ptrdiff_t input, window, stride, dilation, before, after, output;
} qm_window_axis;

/// The numbers are those of Pooling.Kind in Swift.
enum { QM_POOL_MAXIMUM = 0, QM_POOL_AVERAGE_OF_INSIDE = 1, QM_POOL_AVERAGE_OF_PADDED = 2 };

typedef struct {
  int kind;
  /// The spatial axes; one that does not exist has extents, stride and dilation 1 and no padding.
  qm_window_axis depth, height, width;
  ptrdiff_t channels;
  qm_codes in_type, out_type;
  float inverse_scale;
} qm_pooling;

/// Channels last. An item is one row of the output: one index of batch, depth and height.
typedef void (*qm_pool_rows_kernel)(const qm_pooling *pooling, const void *in, void *out,
                                    ptrdiff_t first, ptrdiff_t last);

/// Channels first, float32 in and out. An item is one index of batch and channels.
typedef void (*qm_pool_planes_kernel)(const qm_pooling *pooling, const float *in, float *out,
                                      ptrdiff_t first, ptrdiff_t last);

typedef struct {
  qm_pool_rows_kernel rows;
  qm_pool_planes_kernel planes;
} qm_pooling_kernels;

/// The kernels of a set; those of the portable set if this build does not contain the set.
qm_pooling_kernels qm_pooling_for(qm_kernel_set set);

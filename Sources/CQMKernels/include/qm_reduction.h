// Reductions along one axis. Definitions: QMOperations/Reduction.swift.
//
// The input is [outer, count, inner]; `count` elements are reduced to one. If `inner` is 1, an item
// is one index of `outer`; otherwise it is one index of `outer` and one block of
// QM_REDUCTION_BLOCK columns, blocks innermost.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "qm_kernel_set.h"
#include "qm_quantize.h"

enum { QM_REDUCTION_BLOCK = 64 };

/// The numbers are those of Reduction.Kind in Swift.
enum {
  QM_REDUCE_MEAN = 0,
  QM_REDUCE_SUM = 1,
  QM_REDUCE_MAXIMUM = 2,
  QM_REDUCE_MINIMUM = 3,
  QM_REDUCE_PRODUCT = 4,
  QM_REDUCE_SUM_OF_MAGNITUDES = 5,
  QM_REDUCE_NORM = 6,
  QM_REDUCE_SUM_OF_SQUARES = 7,
  QM_REDUCE_LOGARITHM_OF_SUM = 8,
  QM_REDUCE_LOGARITHM_OF_SUM_OF_EXPONENTIALS = 9,  // inner 1 only
};

/// Reduces items first..<last by the tree of lanes.
/// `scratch`: `count` floats for QM_REDUCE_LOGARITHM_OF_SUM_OF_EXPONENTIALS, otherwise unused.
typedef void (*qm_reduce_kernel)(int kind, const float *in, float *out, ptrdiff_t count,
                                 ptrdiff_t inner, ptrdiff_t first, ptrdiff_t last, float *scratch);

/// Exact sums of codes (QM_INT8, QM_UINT8, QM_INT16); zero points are not subtracted.
typedef void (*qm_sum_codes_kernel)(int element_type, const void *in, int64_t *out,
                                    ptrdiff_t count, ptrdiff_t inner, ptrdiff_t first,
                                    ptrdiff_t last);

/// QM_REDUCE_MAXIMUM or QM_REDUCE_MINIMUM of codes; the results are codes.
typedef void (*qm_extreme_codes_kernel)(int element_type, int kind, const void *in, void *out,
                                        ptrdiff_t count, ptrdiff_t inner, ptrdiff_t first,
                                        ptrdiff_t last);

typedef struct {
  qm_reduce_kernel reduce;
  qm_sum_codes_kernel sum_codes;
  qm_extreme_codes_kernel extreme_codes;
} qm_reduction_kernels;

/// The kernels of a set; those of the portable set if this build does not contain the set.
qm_reduction_kernels qm_reduction_for(qm_kernel_set set);

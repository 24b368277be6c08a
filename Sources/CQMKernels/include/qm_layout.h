// Data movement: elements are copied without reading their values.
#pragma once
#include <stddef.h>
#include "qm_kernel_set.h"

/// For every index: out[Σ index · out_strides] = in[Σ index · in_strides], strides in bytes,
/// elements of `size` bytes (1, 2, 4 or 8).
///
/// A row is one index of all axes but the last, in row-major order; rows first..<last are copied.
/// `rank` is at least 2 and no extent is 0. `out` and `in` do not overlap; neither need be aligned.
void qm_copy_rows(qm_kernel_set set, int rank, int size, const ptrdiff_t *extents,
                  const ptrdiff_t *out_strides, const ptrdiff_t *in_strides, char *out,
                  const char *in, ptrdiff_t first, ptrdiff_t last);

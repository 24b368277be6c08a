#include "qm_layout.h"

#include "../targets/built_sets.h"

typedef void copy_rows(
    int rank, int size, const ptrdiff_t *extents, const ptrdiff_t *out_strides,
    const ptrdiff_t *in_strides, char *out, const char *in, ptrdiff_t first, ptrdiff_t last);

#define QM_DECLARE(set, base, is_available) copy_rows qm_copy_rows_##base;
QM_BUILT_SETS(QM_DECLARE)

void qm_copy_rows(qm_kernel_set set, int rank, int size, const ptrdiff_t *extents,
                  const ptrdiff_t *out_strides, const ptrdiff_t *in_strides, char *out,
                  const char *in, ptrdiff_t first, ptrdiff_t last) {
  static copy_rows *const kernels[] = {
#define QM_ROW(set, base, is_available) [QM_KERNELS_##set] = qm_copy_rows_##base,
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  kernels[qm_built_set(set)](
      rank, size, extents, out_strides, in_strides, out, in, first, last);
}

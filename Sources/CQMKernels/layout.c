#include "qm_layout.h"

#define LAYOUT_PARAMETERS                                                               \
  int rank, int size, const ptrdiff_t *extents, const ptrdiff_t *out_strides,           \
      const ptrdiff_t *in_strides, char *out, const char *in, ptrdiff_t first, ptrdiff_t last

void qm_copy_rows_portable(LAYOUT_PARAMETERS);
void qm_copy_rows_avx2(LAYOUT_PARAMETERS);
void qm_copy_rows_avx512(LAYOUT_PARAMETERS);
void qm_copy_rows_neon(LAYOUT_PARAMETERS);

void qm_copy_rows(qm_kernel_set set, LAYOUT_PARAMETERS) {
  switch (set) {
#if defined(__x86_64__)
    case QM_AVX512:
      qm_copy_rows_avx512(rank, size, extents, out_strides, in_strides, out, in, first, last);
      break;
    case QM_AVX2:
      qm_copy_rows_avx2(rank, size, extents, out_strides, in_strides, out, in, first, last);
      break;
#elif defined(__aarch64__)
    case QM_NEON:
      qm_copy_rows_neon(rank, size, extents, out_strides, in_strides, out, in, first, last);
      break;
#endif
    default:
      qm_copy_rows_portable(rank, size, extents, out_strides, in_strides, out, in, first, last);
      break;
  }
}

#include "qm_quantize.h"

#include "../targets/built_sets.h"

qm_quantize_kernels qm_quantize_for(qm_kernel_set set) {
  static const qm_quantize_kernels kernels[] = {
#define QM_ROW(set, base, is_available)                                                      \
  [QM_KERNELS_##set] = {qm_decode_##base, qm_encode_##base, qm_bounds_##base,                \
                        qm_encode_rows_##base, qm_table_##base},
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

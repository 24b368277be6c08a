#include "qm_cells.h"
#include "qm_functions.h"

#include "../targets/built_sets.h"

qm_unary_f32_kernel qm_unary_f32_for(qm_kernel_set set) {
  static const qm_unary_f32_kernel kernels[] = {
#define QM_ROW(set, base, is_available) [QM_KERNELS_##set] = qm_unary_f32_##base,
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

qm_power_f32_kernel qm_power_f32_for(qm_kernel_set set) {
  static const qm_power_f32_kernel kernels[] = {
#define QM_ROW(set, base, is_available) [QM_KERNELS_##set] = qm_power_f32_##base,
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return kernels[qm_built_set(set)];
}

qm_cell_kernels qm_cells_for(qm_kernel_set set) {
  static const qm_cell_kernels *const kernels[] = {
#define QM_ROW(set, base, is_available) [QM_KERNELS_##set] = &qm_cells_##base,
      QM_BUILT_SETS(QM_ROW)
#undef QM_ROW
  };
  return *kernels[qm_built_set(set)];
}

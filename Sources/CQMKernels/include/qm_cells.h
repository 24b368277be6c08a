// Steps of recurrent cells whose gates are sigmoid and whose states are tanh: from the products of
// input and state to the next state. Definition: QMOperations/Recurrent+Reference.swift.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "qm_kernel_set.h"

/// The steps of one batch item. Products are [gate][hidden].
typedef struct {
  /// Gates i, o, forget, g: c = forget · c + i · g, h = o · tanh(c); if `is_coupled`, forget = 1 − i.
  void (*lstm)(
      const float *of_input, const float *of_state, bool is_coupled, float *c, float *h,
      int64_t hidden);
  /// Gates z, r, n: n = tanh(input's + r · state's), h = (1 − z) · n + z · h.
  void (*gru_reset_after)(
      const float *of_input, const float *of_state, float *h, int64_t hidden);
  /// Gates z and r: overwrites z's products of the state with z, and writes reset = r · h.
  void (*gru_gates)(
      const float *of_input, float *of_state, const float *h, float *reset, int64_t hidden);
  /// After `gru_gates`, with the products of `reset` as the third of the state's:
  /// n = tanh(input's + state's), h = (1 − z) · n + z · h.
  void (*gru_state)(const float *of_input, const float *of_state, float *h, int64_t hidden);
} qm_cell_kernels;

#define QM_DECLARE(set, base, is_available) extern const qm_cell_kernels qm_cells_##base;
QM_KERNEL_SETS(QM_DECLARE)
#undef QM_DECLARE

/// The kernels of a set; those of the portable set if this build does not contain the set.
qm_cell_kernels qm_cells_for(qm_kernel_set set);

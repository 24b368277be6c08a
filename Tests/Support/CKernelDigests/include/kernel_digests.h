// Digests of the kernels' results for seeded numbers. They are the same on every machine and for every
// kernel set.
#pragma once
#include <stdint.h>

#include "qm_kernel_set.h"

/// Kernels of CQMKernels that share a digest.
typedef struct {
  const char *name;
  /// A digest of all outputs of the kernels of `set`, and of the bytes after each output.
  uint64_t (*digest)(qm_kernel_set set);
} qm_digest_family;

/// Family `number`, starting at 0; NULL after the last.
const qm_digest_family *qm_digest_family_at(int32_t number);

/// If set, called with the digest after every case.
extern void (*qm_digest_trace)(const char *family, int64_t number, uint64_t digest);

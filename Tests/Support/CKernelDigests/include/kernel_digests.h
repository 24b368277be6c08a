// Digests of what the kernels compute of seeded numbers: the same on every machine, by every set.
#pragma once
#include <stdint.h>

#include "qm_kernel_set.h"

/// Entries of CQMKernels that are digested together.
typedef struct {
  const char *name;
  /// A digest of all outputs by the kernels of `set`, and of what lies behind them.
  uint64_t (*digest)(qm_kernel_set set);
} qm_digest_family;

/// Family `number`, from 0 on; NULL behind the last.
const qm_digest_family *qm_digest_family_at(int32_t number);

/// If set, learns of the digest behind every case.
extern void (*qm_digest_trace)(const char *family, int64_t number, uint64_t digest);

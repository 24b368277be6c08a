// Shared by all families: seeded random numbers, guarded memory, the digest.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel_digests.h"

/// Every extent that matters goes from 1 to this, which exceeds the vectors and tiles of every set.
enum { QM_LARGEST_SIZE = 67 };

typedef struct {
  const char *family;
  int64_t number;
  uint64_t seed, digest;
  int memory_count;
} cases;

cases cases_of(const char *family);

/// Releases the memory of the case and begins the next case.
void end_case(cases *c);

uint64_t random_bits(cases *c);
/// 0 ..< count.
int64_t random_below(cases *c, int64_t count);
/// low ... high.
int64_t random_in(cases *c, int64_t low, int64_t high);
bool random_bool(cases *c);
/// A power of two times a number in 1 ..< 2.
float random_scale(cases *c, int lowest_power, int highest_power);

/// Memory of the case, filled with a constant. All memory of a case except scratch memory is aligned
/// to 8 bytes, and an access beyond its last 8 bytes is a fault.
void *exact_memory(cases *c, int64_t bytes);
/// The same, but aligned to 64 bytes.
void *scratch_memory(cases *c, int64_t bytes);
/// Memory with random bytes.
void *random_memory(cases *c, int64_t bytes);
/// low ... high; a quarter of them are low or high.
int8_t *random_bytes(cases *c, int64_t count, int32_t low, int32_t high);
int16_t *random_words(cases *c, int64_t count, int32_t low, int32_t high);
/// float32 numbers within −4 ... 4.
float *random_reals(cases *c, int64_t count);
/// float32 numbers of any magnitude, with infinities, NaNs, zeros of both signs, subnormal numbers and
/// halves.
float *random_floats(cases *c, int64_t count);

void digest_bytes(cases *c, const void *bytes, int64_t count);
/// Number of bytes after an output that are digested with it, so that writes beyond the end show.
enum { QM_GUARD = 64 };
void *output_memory(cases *c, int64_t bytes);
/// - Parameter output: memory from `output_memory`.
void digest_output(cases *c, const void *output, int64_t bytes);

uint64_t digest_products_float32(qm_kernel_set set);
uint64_t digest_products_int8(qm_kernel_set set);
uint64_t digest_products_int16(qm_kernel_set set);
uint64_t digest_few_columns(qm_kernel_set set);
uint64_t digest_packed(qm_kernel_set set);
uint64_t digest_depthwise(qm_kernel_set set);
uint64_t digest_winograd(qm_kernel_set set);
uint64_t digest_functions(qm_kernel_set set);
uint64_t digest_elementwise(qm_kernel_set set);
uint64_t digest_quantize(qm_kernel_set set);
uint64_t digest_reduction(qm_kernel_set set);
uint64_t digest_normalization(qm_kernel_set set);
uint64_t digest_pooling(qm_kernel_set set);
uint64_t digest_layout(qm_kernel_set set);

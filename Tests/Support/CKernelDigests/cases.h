// What the families have in common: seeded numbers, memory with guards, the digest.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel_digests.h"

/// Sizes go from 1 to this in every extent that matters: past whole vectors and tiles of every set.
enum { QM_LARGEST_SIZE = 67 };

typedef struct {
  const char *family;
  int64_t number;
  uint64_t seed, digest;
  int memory_count;
} cases;

cases cases_of(const char *family);

/// Gives the case's memory back and begins the next.
void end_case(cases *c);

uint64_t random_bits(cases *c);
/// 0 ..< count.
int64_t random_below(cases *c, int64_t count);
/// low ... high.
int64_t random_in(cases *c, int64_t low, int64_t high);
bool random_bool(cases *c);
/// A power of two times a number in 1 ..< 2.
float random_scale(cases *c, int lowest_power, int highest_power);

/// Memory of the case, its contents of no meaning. It, and all other memory of a case but scratch
/// memory, is aligned to 8 bytes, and behind the last 8 of them nothing can be read or written.
void *exact_memory(cases *c, int64_t bytes);
/// The same, aligned to 64 bytes.
void *scratch_memory(cases *c, int64_t bytes);
/// Memory with random bytes.
void *random_memory(cases *c, int64_t bytes);
/// low ... high, a quarter of them one of both.
int8_t *random_bytes(cases *c, int64_t count, int32_t low, int32_t high);
int16_t *random_words(cases *c, int64_t count, int32_t low, int32_t high);
/// Within −4 ... 4.
float *random_reals(cases *c, int64_t count);
/// Of any magnitude, with infinities, NaNs, zeros of both signs, subnormal numbers and halves.
float *random_floats(cases *c, int64_t count);

void digest_bytes(cases *c, const void *bytes, int64_t count);
/// So many bytes behind an output are digested with it.
enum { QM_GUARD = 64 };
void *output_memory(cases *c, int64_t bytes);
/// Of memory from `output_memory`.
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

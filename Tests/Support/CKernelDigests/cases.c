#include "cases.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void (*qm_digest_trace)(const char *family, int64_t number, uint64_t digest);

static const qm_digest_family families[] = {
    {"products of float32", digest_products_float32},
    {"products of int8", digest_products_int8},
    {"products of int16", digest_products_int16},
    {"products of few columns", digest_few_columns},
    {"products of packed weights", digest_packed},
    {"depthwise", digest_depthwise},
    {"Winograd", digest_winograd},
    {"functions", digest_functions},
    {"elementwise", digest_elementwise},
    {"quantize", digest_quantize},
    {"reduction", digest_reduction},
    {"normalization", digest_normalization},
    {"pooling", digest_pooling},
    {"layout", digest_layout},
};

const qm_digest_family *qm_digest_family_at(int32_t number) {
  size_t count = sizeof families / sizeof families[0];
  return (size_t)number < count ? families + number : NULL;
}

cases cases_of(const char *family) {
  cases c = {.family = family, .digest = 0xCBF29CE484222325};
  return c;
}

void end_case(cases *c) {
  c->memory_count = 0;
  if (qm_digest_trace) qm_digest_trace(c->family, c->number, c->digest);
  c->number++;
}

uint64_t random_bits(cases *c) {
  c->seed += 0x9E3779B97F4A7C15;
  uint64_t z = c->seed;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

int64_t random_below(cases *c, int64_t count) {
  return (int64_t)(random_bits(c) >> 1) % count;
}

int64_t random_in(cases *c, int64_t low, int64_t high) {
  return low + random_below(c, high - low + 1);
}

bool random_bool(cases *c) { return random_bits(c) & 1; }

float random_scale(cases *c, int lowest_power, int highest_power) {
  uint32_t power = (uint32_t)(127 + random_in(c, lowest_power, highest_power));
  uint32_t bits = power << 23 | (uint32_t)(random_bits(c) >> 41);
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return scale;
}

enum { MEMORY_COUNT = 32, MEMORY_BYTES = 1 << 20 };

// The next memory of the case. A page that cannot be accessed begins directly after it, apart from
// the alignment.
static void *take_memory(cases *c, int64_t bytes, int64_t alignment) {
  static _Thread_local char *ends[MEMORY_COUNT];
  if (c->memory_count == MEMORY_COUNT || bytes > MEMORY_BYTES) abort();
  char **end = ends + c->memory_count++;
  if (!*end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *begin = mmap(NULL, MEMORY_BYTES + page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *end = begin + MEMORY_BYTES;
    if (begin == MAP_FAILED || mprotect(*end, page, PROT_NONE) != 0) abort();
  }
  return *end - (bytes + alignment - 1) / alignment * alignment;
}

void *scratch_memory(cases *c, int64_t bytes) {
  return memset(take_memory(c, bytes, 64), 0x5A, (size_t)bytes);
}

void *exact_memory(cases *c, int64_t bytes) {
  return memset(take_memory(c, bytes, 8), 0x5A, (size_t)bytes);
}

void *random_memory(cases *c, int64_t bytes) {
  char *memory = take_memory(c, bytes, 8);
  for (int64_t i = 0; i < bytes; i += 8) {
    uint64_t bits = random_bits(c);
    memcpy(memory + i, &bits, bytes - i < 8 ? (size_t)(bytes - i) : 8);
  }
  return memory;
}

#define RANDOM_CODES(type)                                                              \
  {                                                                                     \
    type *codes = take_memory(c, count * (int64_t)sizeof(type), 8);                        \
    for (int64_t i = 0; i < count; i++) {                                               \
      uint64_t bits = random_bits(c);                                                   \
      int32_t code = low + (int32_t)((bits >> 16) % (uint64_t)(high - low + 1));        \
      codes[i] = (type)((bits & 3) != 0 ? code : (bits & 4) != 0 ? low : high);         \
    }                                                                                   \
    return codes;                                                                       \
  }

int8_t *random_bytes(cases *c, int64_t count, int32_t low, int32_t high) RANDOM_CODES(int8_t)

int16_t *random_words(cases *c, int64_t count, int32_t low, int32_t high) RANDOM_CODES(int16_t)

float *random_reals(cases *c, int64_t count) {
  float *reals = take_memory(c, 4 * count, 8);
  for (int64_t i = 0; i < count; i++) {
    reals[i] = (float)((int64_t)(random_bits(c) >> 40) - (1 << 23)) * 0x1p-21f;
  }
  return reals;
}

float *random_floats(cases *c, int64_t count) {
  static const uint32_t special[] = {
      0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001,
      0xFFBFFFFF, 0x00000001, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF,
      0x3F800000, 0xBF800000, 0x4B000000, 0xCB000001, 0x4F000000, 0xCF000000, 0x5F000000,
  };
  float *floats = random_reals(c, count);
  for (int64_t i = 0; i < count; i++) {
    uint64_t bits = random_bits(c);
    uint32_t pattern = (uint32_t)(bits >> 32);
    switch (bits & 15) {
      case 0: pattern = special[pattern % (sizeof special / sizeof special[0])]; break;
      case 1: break;
      case 2: floats[i] = (float)(int32_t)(pattern % 1024) - 511.5f; continue;
      case 3: floats[i] = floats[i] * 32.0f; continue;
      default: continue;
    }
    memcpy(floats + i, &pattern, sizeof pattern);
  }
  return floats;
}

void *output_memory(cases *c, int64_t bytes) {
  return memset(take_memory(c, bytes + QM_GUARD, 8), 0xA5, (size_t)(bytes + QM_GUARD));
}

void digest_bytes(cases *c, const void *bytes, int64_t count) {
  const char *from = bytes;
  uint64_t digest = c->digest;
  for (int64_t i = 0; i < count; i += 8) {
    uint64_t word = 0;
    memcpy(&word, from + i, count - i < 8 ? (size_t)(count - i) : 8);
    digest = (digest ^ word) * 0x100000001B3;
    digest ^= digest >> 29;
  }
  c->digest = digest;
}

void digest_output(cases *c, const void *output, int64_t bytes) {
  digest_bytes(c, output, bytes + QM_GUARD);
}

// The instructions of AVX-512 and of VNNI that the kernels name, written out, so that the sources of
// those sets run on any processor with AVX2. Included before each of them. What it cannot show is
// what the compiler makes of their plain loops for AVX-512.
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

// Of every attribute and pragma. Vectors of 64 bytes become two registers.
#define target(sets) target("avx2,fma,f16c")
#define __builtin_cpu_supports(set) 1

#define QM_EMULATED static inline __attribute__((always_inline, __target__("avx2,fma,f16c")))

typedef int8_t emulated_bytes __attribute__((vector_size(64)));
typedef uint8_t emulated_unsigned_bytes __attribute__((vector_size(64)));
typedef int16_t emulated_words __attribute__((vector_size(64)));
typedef uint16_t emulated_unsigned_words __attribute__((vector_size(64)));
typedef uint32_t emulated_numbers __attribute__((vector_size(64)));

QM_EMULATED __m512i emulated_load(const void *p) {
  __m512i result;
  memcpy(&result, p, sizeof result);
  return result;
}

QM_EMULATED __m512i emulated_permute_quads(__m512i a, __m512i places, __m512i b) {
  __m512i result;
  for (int i = 0; i < 8; i++) result[i] = places[i] & 8 ? b[places[i] & 7] : a[places[i] & 7];
  return result;
}

QM_EMULATED __m512i emulated_unpack_words(__m512i a, __m512i b, int first) {
  emulated_words x = (emulated_words)a, y = (emulated_words)b, result;
  for (int i = 0; i < 32; i++) {
    int place = i / 8 * 8 + first + i % 8 / 2;
    result[i] = i % 2 ? y[place] : x[place];
  }
  return (__m512i)result;
}

QM_EMULATED __m512i emulated_widen(__m256i a) {
  typedef int8_t half __attribute__((vector_size(32)));
  half bytes = (half)a;
  emulated_words result;
  for (int i = 0; i < 32; i++) result[i] = bytes[i];
  return (__m512i)result;
}

// Sums are modulo 2³².
QM_EMULATED __m512i emulated_word_products(__m512i sums, __m512i a, __m512i b) {
  emulated_words x = (emulated_words)a, y = (emulated_words)b;
  emulated_numbers result = (emulated_numbers)sums;
  for (int i = 0; i < 32; i++) result[i / 2] += (uint32_t)(x[i] * y[i]);
  return (__m512i)result;
}

QM_EMULATED __m512i emulated_byte_products(__m512i sums, __m512i a, __m512i b) {
  emulated_unsigned_bytes x = (emulated_unsigned_bytes)a;
  emulated_bytes y = (emulated_bytes)b;
  emulated_numbers result = (emulated_numbers)sums;
  for (int i = 0; i < 64; i++) result[i / 4] += (uint32_t)(x[i] * y[i]);
  return (__m512i)result;
}

// Sums of two products saturate.
QM_EMULATED __m512i emulated_byte_pairs(__m512i a, __m512i b) {
  emulated_unsigned_bytes x = (emulated_unsigned_bytes)a;
  emulated_bytes y = (emulated_bytes)b;
  emulated_words result;
  for (int i = 0; i < 32; i++) {
    int sum = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    result[i] = (int16_t)(sum > INT16_MAX ? INT16_MAX : sum < INT16_MIN ? INT16_MIN : sum);
  }
  return (__m512i)result;
}

QM_EMULATED __m256i emulated_part(__m512i a, int part) {
  __m256i result;
  memcpy(&result, (const char *)&a + 32 * part, sizeof result);
  return result;
}

QM_EMULATED __m512i emulated_joined(__m256i low, __m256i high) {
  __m512i result;
  memcpy(&result, &low, sizeof low);
  memcpy((char *)&result + 32, &high, sizeof high);
  return result;
}

// An instruction of AVX2 in both halves.
#define QM_HALVES(instruction, a, b)                                        \
  emulated_joined(instruction(emulated_part(a, 0), emulated_part(b, 0)),    \
                  instruction(emulated_part(a, 1), emulated_part(b, 1)))

QM_EMULATED __m512i emulated_rounded(__m512 numbers) {
  __m256 low, high;
  memcpy(&low, &numbers, sizeof low);
  memcpy(&high, (const char *)&numbers + 32, sizeof high);
  return emulated_joined(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
}

QM_EMULATED __m512i emulated_permute_numbers(__m512i places, __m512i a) {
  emulated_numbers index = (emulated_numbers)places, from = (emulated_numbers)a, result;
  for (int i = 0; i < 16; i++) result[i] = from[index[i] & 15];
  return (__m512i)result;
}

// Copies the elements of `size` bytes whose bits are set.
QM_EMULATED void emulated_copy(void *to, const void *from, uint32_t mask, int count, int size) {
  for (int i = 0; i < count; i++) {
    if (mask >> i & 1) memcpy((char *)to + size * i, (const char *)from + size * i, (size_t)size);
  }
}

QM_EMULATED __m256i emulated_masked_bytes(uint32_t mask, const void *from) {
  __m256i result = {0};
  emulated_copy(&result, from, mask, 32, 1);
  return result;
}

QM_EMULATED __m512 emulated_masked_numbers(uint32_t mask, const void *from) {
  __m512 result = {0};
  emulated_copy(&result, from, mask, 16, 4);
  return result;
}

#define _mm512_loadu_si512(p) emulated_load(p)
#define _mm512_cvtps_epi32(a) emulated_rounded(a)
#define _mm512_packs_epi32(a, b) QM_HALVES(_mm256_packs_epi32, a, b)
#define _mm512_packs_epi16(a, b) QM_HALVES(_mm256_packs_epi16, a, b)
#define _mm512_adds_epi16(a, b) QM_HALVES(_mm256_adds_epi16, a, b)
#define _mm512_min_epi8(a, b) QM_HALVES(_mm256_min_epi8, a, b)
#define _mm512_max_epi8(a, b) QM_HALVES(_mm256_max_epi8, a, b)
#undef _mm512_setr_epi32
#define _mm512_setr_epi32(...) ((__m512i)(emulated_numbers){__VA_ARGS__})
#define _mm512_permutexvar_epi32(places, a) emulated_permute_numbers(places, a)
#define _mm512_castsi512_si256(a) emulated_part(a, 0)
#undef _mm512_extracti64x4_epi64
#define _mm512_extracti64x4_epi64(a, part) emulated_part(a, part)
#define _mm256_maskz_loadu_epi8(mask, p) emulated_masked_bytes(mask, p)
#define _mm512_maskz_loadu_ps(mask, p) emulated_masked_numbers(mask, p)
#define _mm256_mask_storeu_epi8(p, mask, a)            \
  do {                                                 \
    __m256i stored_ = a;                               \
    emulated_copy(p, &stored_, mask, 32, 1);           \
  } while (0)
#define _mm512_mask_storeu_ps(p, mask, a)              \
  do {                                                 \
    __m512 stored_ = a;                                \
    emulated_copy(p, &stored_, mask, 16, 4);           \
  } while (0)
#define _mm512_setzero_si512() ((__m512i){0})
#define _mm512_set1_epi8(n) ((__m512i)((emulated_bytes){0} + (int8_t)(n)))
#define _mm512_set1_epi16(n) ((__m512i)((emulated_words){0} + (int16_t)(n)))
#define _mm512_set1_epi32(n) ((__m512i)((emulated_numbers){0} + (uint32_t)(n)))
#undef _mm512_setr_epi64
#define _mm512_setr_epi64(...) ((__m512i){__VA_ARGS__})
#define _mm512_and_si512(a, b) ((a) & (b))
#define _mm512_add_epi16(a, b) \
  ((__m512i)((emulated_unsigned_words)(a) + (emulated_unsigned_words)(b)))
#define _mm512_add_epi32(a, b) ((__m512i)((emulated_numbers)(a) + (emulated_numbers)(b)))
#define _mm512_srli_epi16(a, n) ((__m512i)((emulated_unsigned_words)(a) >> (n)))
#define _mm512_permutex2var_epi64(a, places, b) emulated_permute_quads(a, places, b)
#define _mm512_unpacklo_epi16(a, b) emulated_unpack_words(a, b, 0)
#define _mm512_unpackhi_epi16(a, b) emulated_unpack_words(a, b, 4)
#define _mm512_cvtepi8_epi16(a) emulated_widen(a)
#define _mm512_madd_epi16(a, b) emulated_word_products((__m512i){0}, a, b)
#define _mm512_maddubs_epi16(a, b) emulated_byte_pairs(a, b)
#define _mm512_dpwssd_epi32(sums, a, b) emulated_word_products(sums, a, b)
#define _mm512_dpbusd_epi32(sums, a, b) emulated_byte_products(sums, a, b)

// Those of AVX-VNNI, in halves.
QM_EMULATED __m512i emulated_wide(__m256i a) {
  __m512i result = {0};
  memcpy(&result, &a, sizeof a);
  return result;
}
QM_EMULATED __m256i emulated_half(__m512i a) {
  __m256i result;
  memcpy(&result, &a, sizeof result);
  return result;
}
#define _mm256_dpwssd_avx_epi32(sums, a, b) \
  emulated_half(emulated_word_products(emulated_wide(sums), emulated_wide(a), emulated_wide(b)))
#define _mm256_dpbusd_avx_epi32(sums, a, b) \
  emulated_half(emulated_byte_products(emulated_wide(sums), emulated_wide(a), emulated_wide(b)))

// What this processor can do at most: products and sums of registers alone, one thread, in GOP/s
// (two operations for each multiply-add), for each way in which the kernels multiply.
// bench.sh compiles and runs it.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

// Sums that are on their way at a time: enough for the latency of any of the instructions.
#define SUMS 12
#define ROUNDS 4000000

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// The operands change behind the compiler's back, so that no product leaves the loop.
#define LIMIT(name, sets, vector, zero, operations, statement)             \
  __attribute__((target(sets))) static double name(void) {                 \
    double least = 1e9;                                                    \
    for (int repetition = 0; repetition < 5; repetition++) {               \
      vector sums[SUMS], a = zero, b = zero;                               \
      for (int j = 0; j < SUMS; j++) sums[j] = zero;                       \
      double start = seconds();                                            \
      for (int round = 0; round < ROUNDS; round++) {                       \
        _Pragma("clang loop unroll(full)") for (int j = 0; j < SUMS; j++) { \
          __asm__ volatile("" : "+x"(a), "+x"(b));                         \
          statement;                                                       \
        }                                                                  \
      }                                                                    \
      double taken = seconds() - start;                                    \
      for (int j = 0; j < SUMS; j++) __asm__ volatile("" ::"x"(sums[j]));   \
      if (taken < least) least = taken;                                    \
    }                                                                      \
    return (double)(operations) * SUMS * ROUNDS / least * 1e-9;            \
  }

#define AVX2 "avx2,fma"
LIMIT(avx2_float, AVX2, __m256, _mm256_setzero_ps(), 16, sums[j] = _mm256_fmadd_ps(a, b, sums[j]))
LIMIT(avx2_words, AVX2, __m256i, _mm256_setzero_si256(), 32,
      sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(a, b)))
LIMIT(avx2_bytes, AVX2, __m256i, _mm256_setzero_si256(), 64,
      sums[j] = _mm256_add_epi32(
          sums[j], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1))))
LIMIT(avx2_narrow_bytes, AVX2, __m256i, _mm256_setzero_si256(), 64,
      sums[j] = _mm256_add_epi16(sums[j], _mm256_maddubs_epi16(a, b)))

#define VNNI256 "avx2,avxvnni"
LIMIT(avxvnni_bytes, VNNI256, __m256i, _mm256_setzero_si256(), 64,
      sums[j] = _mm256_dpbusd_avx_epi32(sums[j], a, b))

#define AVX512 "avx512f,avx512bw"
LIMIT(avx512_float, AVX512, __m512, _mm512_setzero_ps(), 32,
      sums[j] = _mm512_fmadd_ps(a, b, sums[j]))
LIMIT(avx512_words, AVX512, __m512i, _mm512_setzero_si512(), 64,
      sums[j] = _mm512_add_epi32(sums[j], _mm512_madd_epi16(a, b)))
LIMIT(avx512_bytes, AVX512, __m512i, _mm512_setzero_si512(), 128,
      sums[j] = _mm512_add_epi32(
          sums[j], _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1))))
LIMIT(avx512_narrow_bytes, AVX512, __m512i, _mm512_setzero_si512(), 128,
      sums[j] = _mm512_add_epi16(sums[j], _mm512_maddubs_epi16(a, b)))

#define VNNI "avx512f,avx512bw,avx512vnni"
LIMIT(vnni_words, VNNI, __m512i, _mm512_setzero_si512(), 64,
      sums[j] = _mm512_dpwssd_epi32(sums[j], a, b))
LIMIT(vnni_bytes, VNNI, __m512i, _mm512_setzero_si512(), 128,
      sums[j] = _mm512_dpbusd_epi32(sums[j], a, b))

static void report(const char *what, int is_there, double (*limit)(void)) {
  if (is_there) printf("%-46s %6.0f GOP/s\n", what, limit());
}

int main(void) {
  int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  int avx512 = __builtin_cpu_supports("avx512bw");
  int vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  report("avx2     float32", avx2, avx2_float);
  report("avx2     int16 (any 8-bit weights, Winograd)", avx2, avx2_words);
  report("avx2     bytes (weights up to 7 bits)", avx2, avx2_bytes);
  report("avx2     bytes (weights up to 4 bits)", avx2, avx2_narrow_bytes);
  report("avxvnni  bytes", __builtin_cpu_supports("avxvnni"), avxvnni_bytes);
  report("avx512   float32", avx512, avx512_float);
  report("avx512   int16", avx512, avx512_words);
  report("avx512   bytes (weights up to 7 bits)", avx512, avx512_bytes);
  report("avx512   bytes (weights up to 4 bits)", avx512, avx512_narrow_bytes);
  report("avx512vnni int16 (Winograd)", vnni, vnni_words);
  report("avx512vnni bytes", vnni, vnni_bytes);
  return 0;
}

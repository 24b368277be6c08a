#include "qm_threads.h"

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>

// The flags of exceptions that have occurred; they are no setting.
#define QM_STICKY 0x3Fu
// All exceptions masked, rounding to nearest, no flush to zero, subnormal operands kept.
#define QM_STANDARD 0x1F80u

uint64_t qm_float_environment_enter(void) {
  uint32_t saved = _mm_getcsr();
  if ((saved & ~QM_STICKY) != QM_STANDARD) _mm_setcsr(QM_STANDARD | (saved & QM_STICKY));
  return saved;
}

void qm_float_environment_leave(uint64_t saved) {
  uint32_t mode = (uint32_t)saved & ~QM_STICKY;
  if (mode != QM_STANDARD) _mm_setcsr(mode | (_mm_getcsr() & QM_STICKY));
}

#elif defined(__aarch64__)

// 0 means rounding to nearest, no flush to zero, NaNs keep their payload, no traps.
uint64_t qm_float_environment_enter(void) {
  uint64_t saved;
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
  if (saved != 0) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
  return saved;
}

void qm_float_environment_leave(uint64_t saved) {
  if (saved != 0) __asm__ volatile("msr fpcr, %0" : : "r"(saved));
}

#else
#include <fenv.h>

uint64_t qm_float_environment_enter(void) {
  int saved = fegetround();
  if (saved != FE_TONEAREST) fesetround(FE_TONEAREST);
  return (uint64_t)saved;
}

void qm_float_environment_leave(uint64_t saved) {
  if ((int)saved != FE_TONEAREST) fesetround((int)saved);
}
#endif

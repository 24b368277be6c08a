// Prints the digest of every family by every set that this machine has. With an argument, the digest
// behind every case of that family, to find the one that differs.
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernel_digests.h"
#include "qm_threads.h"

static void trace(const char *family, int64_t number, uint64_t digest) {
  printf("%s %" PRId64 " %016" PRIx64 "\n", family, number, digest);
}

#if defined(__aarch64__)
static uint64_t mode(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
// Default NaN, flush to zero, toward zero.
static const uint64_t foreign = 7u << 23 | 1u << 22;
static void set_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
static const uint64_t foreign = 0;
static uint64_t mode(void) { return 0; }
static void set_mode(uint64_t mode) { (void)mode; }
#endif

int main(int count, char **arguments) {
  if (count > 1) qm_digest_trace = trace;
  // The caller's mode must not matter, and come back.
  set_mode(foreign);
  uint64_t saved = qm_float_environment_enter();
  for (int number = 0; number < QM_KERNEL_SET_COUNT; number++) {
    qm_kernel_set set = (qm_kernel_set)number;
    if (!qm_kernel_set_available(set)) continue;
    const qm_digest_family *family;
    for (int f = 0; (family = qm_digest_family_at(f)) != NULL; f++) {
      if (count > 1 && strcmp(arguments[1], family->name) != 0) continue;
      uint64_t digest = family->digest(set);
      printf("%s\t%s\t%016" PRIx64 "\n", qm_kernel_set_name(set), family->name, digest);
    }
  }
  qm_float_environment_leave(saved);
  if (mode() != foreign) {
    fprintf(stderr, "the caller's floating-point mode did not come back\n");
    return 1;
  }
  return 0;
}

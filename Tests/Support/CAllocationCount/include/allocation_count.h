// Counts what a thread allocates, for tests that say that it allocates nothing.
#pragma once
#include <stdbool.h>
#include <stdint.h>

/// Whether allocations are counted on this system.
bool allocation_count_is_available(void);
/// Allocations of the calling thread so far.
int64_t allocation_count(void);

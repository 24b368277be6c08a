// Counts the allocations of a thread, for tests that check that it allocates nothing.
#pragma once
#include <stdbool.h>
#include <stdint.h>

/// Whether allocations are counted on this system.
bool allocation_count_is_available(void);
/// Number of allocations of the calling thread so far.
int64_t allocation_count(void);

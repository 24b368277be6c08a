// A pool of threads that share the chunks of one loop at a time.
//
// Workers spin while a run is in flight (between qm_pool_begin and qm_pool_end) and sleep between
// runs. Chunks come from one atomic counter that the caller drains too, so that a worker that is
// not scheduled delays nobody.
#pragma once
#include <stdint.h>

typedef struct qm_pool qm_pool;

/// Does chunk `chunk`. `thread` is below the number of threads; 0 is the caller. No two chunks run
/// on one thread number of one loop at the same time.
typedef void (*qm_chunk_body)(void *context, uint32_t chunk, int32_t thread);

/// A pool of `threads` threads, the caller's included.
/// Returns NULL if memory is short. If the system refuses threads, the pool has fewer workers.
qm_pool *qm_pool_create(int32_t threads);

/// Ends and joins the workers. No loop may be in progress.
void qm_pool_destroy(qm_pool *pool);

/// Wakes the workers for a run. Calls nest and may come from several threads.
void qm_pool_begin(qm_pool *pool);
void qm_pool_end(qm_pool *pool);

/// Calls `body` for each chunk below `chunks` and returns when all have returned.
/// While another loop is in progress (on another thread, or around this call) the caller does
/// every chunk itself.
void qm_pool_run(qm_pool *pool, uint32_t chunks, qm_chunk_body body, void *context);

/// Sets rounding to nearest, subnormal numbers kept and all exceptions masked.
/// Returns what was set before, for qm_float_environment_leave.
uint64_t qm_float_environment_enter(void);

/// Restores what qm_float_environment_enter found. Costs nothing where that was the same.
void qm_float_environment_leave(uint64_t saved);

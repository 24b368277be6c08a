// A pool of threads that share the chunks of one loop at a time.
//
// Workers spin during a run (between qm_pool_begin and qm_pool_end) and sleep between runs. All
// threads, including the caller's, take chunks from one atomic word, so that a worker that is not
// scheduled delays no other thread.
#pragma once
#include <stdint.h>

typedef struct qm_pool qm_pool;

/// Computes chunk `chunk`. `thread` is below the number of threads; 0 is the caller. Chunks of a
/// loop that run at the same time have different thread numbers.
typedef void (*qm_chunk_body)(void *context, uint32_t chunk, int32_t thread);

/// A pool of `threads` threads, including the caller's.
/// Returns NULL if memory cannot be allocated. If the system refuses threads, the pool has fewer.
qm_pool *qm_pool_create(int32_t threads);

/// Stops and joins the workers. No loop may be in progress.
void qm_pool_destroy(qm_pool *pool);

/// Wakes the workers for a run. Calls nest and may come from several threads.
void qm_pool_begin(qm_pool *pool);
/// Ends a run: without another one the workers soon sleep.
void qm_pool_end(qm_pool *pool);

/// Calls `body` for each chunk below `chunks` and returns when all calls have returned.
/// While another loop is in progress (on another thread, or around this call), the caller runs
/// every chunk itself.
void qm_pool_run(qm_pool *pool, uint32_t chunks, qm_chunk_body body, void *context);

/// Sets rounding to nearest, keeps subnormal numbers and masks all exceptions on this thread.
/// Returns the earlier settings, for qm_float_environment_leave.
uint64_t qm_float_environment_enter(void);

/// Restores the settings that qm_float_environment_enter returned; does nothing if they are equal.
void qm_float_environment_leave(uint64_t saved);

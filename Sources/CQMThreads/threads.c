#include "qm_threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define QM_PAUSE() _mm_pause()
#elif defined(__aarch64__)
// `yield` does nothing on most cores; this waits about as long as x86's pause.
#define QM_PAUSE() __asm__ __volatile__("isb")
#else
#define QM_PAUSE() ((void)0)
#endif

// After this many polls a waiting thread yields.
#define QM_POLLS_BEFORE_YIELD 2000
// After this many polls without a run, about 20 µs, a worker sleeps. Waking it takes longer, and
// the next run often starts at once.
#define QM_POLLS_BEFORE_SLEEP 1000

typedef struct qm_worker {
  qm_pool *pool;
  pthread_t thread;
  int32_t number;
} qm_worker;

// Largest number of chunks of one loop: its two bounds have 16 bits each.
#define QM_MOST_CHUNKS 0xFFFFu
#define QM_ONE_FROM_FRONT (1ull << 16)

struct qm_pool {
  // The loop's number in the upper half; in the lower half the bounds of the chunks that are not
  // taken yet: the first (16 bits) and the end (16 bits). The fields of a loop are written only
  // while no chunk is left, and a chunk is taken by exchanging the whole word, so that a successful
  // exchange proves that the fields were those of this loop.
  _Alignas(64) _Atomic uint64_t ticket;
  _Alignas(64) _Atomic uint32_t finished;
  // Number of the loop's first chunk.
  _Alignas(64) _Atomic uint32_t first;
  _Atomic(qm_chunk_body) body;
  _Atomic(void *) context;
  atomic_flag busy;
  _Atomic int32_t runs;
  _Atomic bool stopping;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  int32_t worker_count;
  qm_worker workers[];
};

static uint32_t front_of(uint64_t ticket) { return (uint32_t)ticket >> 16; }
static uint32_t back_of(uint64_t ticket) { return (uint32_t)ticket & QM_MOST_CHUNKS; }
static bool has_chunks(uint64_t ticket) { return front_of(ticket) < back_of(ticket); }

// Takes and runs chunks until none is left. The caller's thread takes them from the front, the
// others from the back, so that a thread gets similar chunks, and finds their data in its cache, in
// consecutive loops.
static void drain(qm_pool *pool, int32_t thread) {
  uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
  while (has_chunks(ticket)) {
    uint32_t first = atomic_load_explicit(&pool->first, memory_order_relaxed);
    qm_chunk_body body = atomic_load_explicit(&pool->body, memory_order_relaxed);
    void *context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    uint32_t chunk = thread == 0 ? front_of(ticket) : back_of(ticket) - 1;
    uint64_t next = thread == 0 ? ticket + QM_ONE_FROM_FRONT : ticket - 1;
    if (atomic_compare_exchange_weak_explicit(
            &pool->ticket, &ticket, next, memory_order_acq_rel, memory_order_acquire)) {
      body(context, first + chunk, thread);
      atomic_fetch_add_explicit(&pool->finished, 1, memory_order_release);
      ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    }
  }
}

static void *work(void *argument) {
  qm_worker *worker = argument;
  qm_pool *pool = worker->pool;
  qm_float_environment_enter();
  for (;;) {
    int polls = 0, idle_polls = 0;
    while (idle_polls < QM_POLLS_BEFORE_SLEEP) {
      if (has_chunks(atomic_load_explicit(&pool->ticket, memory_order_relaxed))) {
        drain(pool, worker->number);
        polls = idle_polls = 0;
      } else if (atomic_load_explicit(&pool->runs, memory_order_relaxed) == 0) {
        idle_polls++;
        QM_PAUSE();
      } else if (++polls < QM_POLLS_BEFORE_YIELD) {
        QM_PAUSE();
      } else {
        sched_yield();
        polls = 0;
      }
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->runs) == 0 && !atomic_load(&pool->stopping)) {
      pthread_cond_wait(&pool->wake, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (atomic_load(&pool->stopping)) return NULL;
  }
}

qm_pool *qm_pool_create(int32_t threads) {
  int32_t wanted = threads > 1 ? threads - 1 : 0;
  void *memory = NULL;
  size_t size = sizeof(qm_pool) + (size_t)wanted * sizeof(qm_worker);
  if (posix_memalign(&memory, 64, size) != 0) return NULL;
  qm_pool *pool = memory;
  atomic_init(&pool->ticket, 0);
  atomic_init(&pool->finished, 0);
  atomic_init(&pool->first, 0);
  atomic_init(&pool->body, NULL);
  atomic_init(&pool->context, NULL);
  atomic_flag_clear(&pool->busy);
  atomic_init(&pool->runs, 0);
  atomic_init(&pool->stopping, false);
  pool->worker_count = 0;
  if (pthread_mutex_init(&pool->mutex, NULL) != 0) {
    free(pool);
    return NULL;
  }
  if (pthread_cond_init(&pool->wake, NULL) != 0) {
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
    return NULL;
  }
  for (int32_t i = 0; i < wanted; i++) {
    qm_worker *worker = &pool->workers[i];
    worker->pool = pool;
    worker->number = i + 1;
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) break;
    pool->worker_count = i + 1;
  }
  return pool;
}

void qm_pool_destroy(qm_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  atomic_store(&pool->stopping, true);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
  for (int32_t i = 0; i < pool->worker_count; i++) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
}

void qm_pool_begin(qm_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->runs, 1);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

void qm_pool_end(qm_pool *pool) { atomic_fetch_sub(&pool->runs, 1); }

// Runs one loop over `count` chunks starting with `first`; at most QM_MOST_CHUNKS.
static void run_loop(
    qm_pool *pool, uint32_t first, uint32_t count, qm_chunk_body body, void *context) {
  atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->first, first, memory_order_relaxed);
  atomic_store_explicit(&pool->body, body, memory_order_relaxed);
  atomic_store_explicit(&pool->context, context, memory_order_relaxed);
  uint64_t previous = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
  uint64_t next = ((previous >> 32) + 1) << 32 | count;
  atomic_store_explicit(&pool->ticket, next, memory_order_release);
  drain(pool, 0);
  int polls = 0;
  while (atomic_load_explicit(&pool->finished, memory_order_acquire) != count) {
    if (++polls < QM_POLLS_BEFORE_YIELD) {
      QM_PAUSE();
    } else {
      sched_yield();
      polls = 0;
    }
  }
}

void qm_pool_run(qm_pool *pool, uint32_t chunks, qm_chunk_body body, void *context) {
  if (chunks <= 1 || pool->worker_count == 0 || atomic_flag_test_and_set(&pool->busy)) {
    for (uint32_t chunk = 0; chunk < chunks; chunk++) body(context, chunk, 0);
    return;
  }
  bool wakes = atomic_load(&pool->runs) == 0;
  if (wakes) qm_pool_begin(pool);
  for (uint32_t first = 0; first < chunks;) {
    uint32_t left = chunks - first;
    uint32_t count = left < QM_MOST_CHUNKS ? left : QM_MOST_CHUNKS;
    run_loop(pool, first, count, body, context);
    first += count;
  }
  if (wakes) qm_pool_end(pool);
  atomic_flag_clear(&pool->busy);
}

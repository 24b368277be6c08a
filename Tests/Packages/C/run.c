// Runs a model from C and compares each byte of its outputs with what qrun wrote; then makes every
// mistake that a caller can make. usage: run model.qm input.npy expected.npy
#include <pthread.h>
#include <qm.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "npy.h"

#define EXPECT(condition)                                                               \
  do {                                                                                  \
    if (!(condition)) {                                                                 \
      fprintf(stderr, "%s:%d: %s; %s\n", __FILE__, __LINE__, #condition, qm_last_error()); \
      exit(1);                                                                          \
    }                                                                                   \
  } while (0)

static qm_output output_of(qm_session *session) {
  qm_output output = {.struct_size = sizeof output};
  EXPECT(qm_session_output(session, 0, &output) == QM_OK);
  return output;
}

// The shape of the model's only input for data of this size: its dynamic axis is what is left.
static void shape_of(const qm_model *model, size_t byte_count, int64_t *shape, size_t *rank) {
  qm_port port = {.struct_size = sizeof port};
  EXPECT(qm_model_input_count(model) == 1);
  EXPECT(qm_model_input(model, 0, &port) == QM_OK);
  EXPECT(port.element_type == QM_TYPE_FLOAT32 && port.rank <= 8);
  int64_t left = (int64_t)(byte_count / qm_element_size(port.element_type));
  for (int axis = 0; axis < port.rank; axis++) {
    if (port.shape[axis] > 0) left /= port.shape[axis];
  }
  for (int axis = 0; axis < port.rank; axis++) {
    shape[axis] = port.shape[axis] < 0 ? left : port.shape[axis];
  }
  *rank = (size_t)port.rank;
}

static void errors(const char *path) {
  qm_model *model = (qm_model *)1;
  EXPECT(qm_model_open("/nowhere/at/all.qm", NULL, &model) == QM_ERROR_CANNOT_OPEN);
  EXPECT(model == NULL && strstr(qm_last_error(), "/nowhere/at/all.qm") != NULL);
  size_t size;
  unsigned char *file = read_file(path, &size);
  EXPECT(qm_model_open_bytes(file, size - 1, NULL, &model) == QM_ERROR_MALFORMED);
  file[size / 2] ^= 1;
  EXPECT(qm_model_open_bytes(file, size, NULL, &model) == QM_ERROR_MALFORMED);
  file[size / 2] ^= 1;
  EXPECT(qm_model_open_bytes(file, size, NULL, &model) == QM_OK);
  free(file);
  qm_model_close(model);
  EXPECT(qm_session_create(model, &(qm_session *){NULL}) == QM_ERROR_USAGE);
  EXPECT(qm_last_error_status() == QM_ERROR_USAGE && strstr(qm_last_error(), "closed") != NULL);
  EXPECT(qm_model_open(path, &(qm_options){.struct_size = sizeof(qm_options), .kernels = "abacus"},
                       &model) == QM_ERROR_USAGE);
}

// The probes in the file: from its path, from its bytes, and where it is another file.
static void self_test(const char *path, const qm_model *model) {
  qm_self_test found = {.struct_size = sizeof found}, again = found;
  EXPECT(qm_model_self_test(model, &found) == QM_OK);
  EXPECT(found.probe_count == 4 && found.agreeing_count == 4 && found.made_inputs == 0);
  EXPECT(found.worst_sqnr > 20 && found.worst_sqnr <= found.median_sqnr);
  size_t size;
  unsigned char *file = read_file(path, &size);
  EXPECT(qm_model_self_test_bytes(model, file, size, &again) == QM_OK);
  EXPECT(again.agreeing_count == 4 && again.worst_sqnr == found.worst_sqnr);
  EXPECT(qm_model_self_test_bytes(model, file, size - 1, &again) == QM_ERROR_MALFORMED);
  qm_model *other;
  EXPECT(qm_model_open_bytes(file, size, NULL, &other) == QM_OK);
  EXPECT(qm_model_self_test(other, &again) == QM_ERROR_USAGE);
  EXPECT(qm_model_self_test(model, &(qm_self_test){0}) == QM_ERROR_USAGE);
  EXPECT(qm_model_self_test(NULL, &again) == QM_ERROR_USAGE);
  qm_model_close(other);
  free(file);
}

typedef struct canceller {
  qm_session *session;
  atomic_bool stops;
} canceller;

static void *cancel_again_and_again(void *argument) {
  canceller *self = argument;
  while (!atomic_load(&self->stops)) qm_session_cancel(self->session);
  return NULL;
}

// A run that is cancelled, and one afterwards.
static void cancellation(qm_session *session) {
  qm_shape many = {(int64_t[]){4096, 64}, 2};
  EXPECT(qm_session_prepare(session, &many, 1) == QM_OK);
  canceller other = {session, false};
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, cancel_again_and_again, &other) == 0);
  qm_status status = QM_OK;
  for (int run = 0; run < 100000 && status == QM_OK; run++) {
    status = qm_session_run_in_place(session);
  }
  EXPECT(status == QM_ERROR_CANCELLED);
  EXPECT(qm_session_output(session, 0, &(qm_output){.struct_size = sizeof(qm_output)}) ==
         QM_ERROR_USAGE);
  atomic_store(&other.stops, true);
  pthread_join(thread, NULL);
}

int main(int count, char **arguments) {
  if (count != 4) return 64;
  size_t size, expected_size;
  unsigned char *input = read_npy(arguments[2], &size);
  unsigned char *expected = read_npy(arguments[3], &expected_size);

  uint64_t needed, taken;
  qm_options options = {.struct_size = sizeof options, .threads = 2, .memory = QM_MEMORY_COMPACT};
  qm_model *model;
  qm_session *session;
  EXPECT(qm_memory_needed(arguments[1], &options, &needed) == QM_OK);
  EXPECT(qm_model_open(arguments[1], &options, &model) == QM_OK);
  EXPECT(qm_model_weight_bytes(model, &taken) == QM_OK && taken <= needed);
  EXPECT(strncmp(qm_model_metadata(model, "producer"), "swift-qm ", 9) == 0);
  EXPECT(qm_session_create(model, &session) == QM_OK);

  int64_t shape[8];
  qm_input given = {input, size, shape, 0};
  shape_of(model, size, shape, &given.rank);
  EXPECT(qm_session_run(session, &given, 1) == QM_OK);
  qm_output output = output_of(session);
  EXPECT(output.byte_count == expected_size && memcmp(output.data, expected, expected_size) == 0);

  // The same without copies.
  void *memory;
  size_t memory_size;
  qm_shape extents = {shape, given.rank};
  EXPECT(qm_session_prepare(session, &extents, 1) == QM_OK);
  EXPECT(qm_session_input(session, 0, &memory, &memory_size) == QM_OK && memory_size == size);
  memcpy(memory, input, size);
  EXPECT(qm_session_run_in_place(session) == QM_OK);
  EXPECT(memcmp(output_of(session).data, expected, expected_size) == 0);

  given.byte_count--;
  EXPECT(qm_session_run(session, &given, 1) == QM_ERROR_INVALID_INPUT);
  given.byte_count++;
  cancellation(session);
  EXPECT(qm_session_run(session, &given, 1) == QM_OK);
  EXPECT(memcmp(output_of(session).data, expected, expected_size) == 0);
  self_test(arguments[1], model);
  errors(arguments[1]);
  qm_session_close(session);
  qm_model_close(model);
  printf("C: %zu bytes as qrun's\n", expected_size);
  return 0;
}

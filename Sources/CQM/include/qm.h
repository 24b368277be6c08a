// Runs .qm files from C, C++, and every language that calls C.
//
//   qm_model *model;
//   qm_session *session;
//   if (qm_model_open("out.qm", NULL, &model) != QM_OK) puts(qm_last_error());
//   qm_session_create(model, &session);
//   qm_input image = {pixels, sizeof pixels, (int64_t[]){1, 64}, 2};
//   qm_session_run(session, &image, 1);
//   qm_output scores = {sizeof scores};
//   qm_session_output(session, 0, &scores);
//
// Threads: a model may be used by any number of threads at the same time. A session may move between
// threads, but be used by one at a time: a second call at the same time fails with QM_ERROR_USAGE.
// Only qm_session_cancel may be called at any time. Every function may be called from any thread.
//
// Errors: no content of a file and no number that a caller passes ends the process. NULL, closed
// handles, wrong sizes and indices out of range are errors. Only the memory behind the caller's
// pointers cannot be checked: it must have the size that is stated.
//
// Binary compatibility: functions and constants keep their meaning. Structures grow at their end;
// their first field is the size that the caller was compiled with.
#ifndef QM_H
#define QM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define QM_API
#else
#define QM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/// The version of the library, such as "0.1.0".
QM_API const char *qm_version(void);

// MARK: Errors

/// What a function returns.
typedef enum qm_status {
  QM_OK = 0,
  /// The caller asks for something that does not exist: a NULL pointer, a closed handle, an index out
  /// of range, a second call on a session at the same time.
  QM_ERROR_USAGE = 1,
  /// The file contradicts the rules of the format.
  QM_ERROR_MALFORMED = 2,
  /// The file is well formed, but this version does not support it.
  QM_ERROR_UNSUPPORTED = 3,
  /// The file cannot be opened or read.
  QM_ERROR_CANNOT_OPEN = 4,
  /// Memory could not be allocated, or a run would take more than its limit.
  QM_ERROR_OUT_OF_MEMORY = 5,
  /// An input does not fit the model: its shape, its size, or its content.
  QM_ERROR_INVALID_INPUT = 6,
  /// qm_session_cancel ended the run.
  QM_ERROR_CANCELLED = 7,
  /// A bug in this library.
  QM_ERROR_INTERNAL = 8
} qm_status;

/// What the last function that failed on this thread found: one line, safe to print. Empty if none
/// has failed. Valid until the next one fails on this thread.
QM_API const char *qm_last_error(void);
/// What that function returned; QM_OK if none has failed.
QM_API qm_status qm_last_error_status(void);
/// What the caller can do about it, as part of a sentence; empty where the message suffices.
QM_API const char *qm_last_error_remedy(void);

// MARK: Options

/// How much memory weights take while a model is open. Results do not depend on it.
typedef enum qm_memory {
  /// At most 3 bytes per weight, or 1 byte per weight + 1 MiB if that is larger.
  QM_MEMORY_STANDARD = 0,
  /// About 1 byte per weight, or less.
  QM_MEMORY_COMPACT = 1
} qm_memory;

/// How a model runs. No option changes the results. Zeros stand for the defaults.
typedef struct qm_options {
  /// sizeof(qm_options).
  size_t struct_size;
  /// Threads per run. 0 is 1: a run stays on the calling thread.
  int32_t threads;
  /// A qm_memory.
  int32_t memory;
  /// The set of kernels: one of the names in qm_kernel_sets. NULL is the fastest.
  const char *kernels;
  /// Maximum memory for values and scratch of one run, in bytes; 0 is no limit. A run that needs more
  /// fails with QM_ERROR_OUT_OF_MEMORY before it allocates.
  uint64_t run_byte_limit;
} qm_options;

/// The names of the kernel sets that this machine can run, slowest first, separated by spaces.
QM_API const char *qm_kernel_sets(void);

// MARK: Models

/// A network that is ready to run.
typedef struct qm_model qm_model;

/// Opens a file. `options` may be NULL. On failure `*model` is NULL.
QM_API qm_status qm_model_open(const char *path, const qm_options *options, qm_model **model);
/// Opens a file that is in memory. The bytes are needed only during the call.
QM_API qm_status qm_model_open_bytes(
    const void *bytes, size_t byte_count, const qm_options *options, qm_model **model);
/// Closes a model; does nothing for NULL. Its sessions keep what they need of it. The texts and
/// shapes that its functions returned are no longer valid.
QM_API void qm_model_close(qm_model *model);

/// A bound on the memory that weights take once the file is open, in bytes. Reads only the listing of
/// the file, not the weights.
QM_API qm_status qm_memory_needed(
    const char *path, const qm_options *options, uint64_t *byte_count);
/// The same for a file that is in memory.
QM_API qm_status qm_memory_needed_bytes(
    const void *bytes, size_t byte_count, const qm_options *options, uint64_t *needed);
/// The memory that the weights of an open model take, in bytes.
QM_API qm_status qm_model_weight_bytes(const qm_model *model, uint64_t *byte_count);

/// The type of one element. Numbers are those of the file format.
typedef enum qm_element_type {
  QM_TYPE_FLOAT32 = 1,
  QM_TYPE_FLOAT16 = 2,
  QM_TYPE_INT8 = 3,
  QM_TYPE_UINT8 = 4,
  QM_TYPE_INT16 = 5,
  QM_TYPE_INT32 = 6,
  QM_TYPE_INT64 = 7,
  /// One byte, 0 or 1.
  QM_TYPE_BOOL = 8,
  QM_TYPE_FLOAT64 = 9,
  QM_TYPE_UINT16 = 10,
  QM_TYPE_UINT32 = 11,
  QM_TYPE_UINT64 = 12,
  QM_TYPE_BFLOAT16 = 13
} qm_element_type;

/// Size of one element, in bytes; 0 if there is no such type.
QM_API size_t qm_element_size(int32_t element_type);

/// An input or output of a model. Its pointers are valid until the model is closed.
typedef struct qm_port {
  /// sizeof(qm_port), set by the caller.
  size_t struct_size;
  /// Its name in the network.
  const char *name;
  /// A qm_element_type.
  int32_t element_type;
  /// Number of axes; 0 for a scalar.
  int32_t rank;
  /// The extent of each axis, outermost first; −1 if each run chooses it.
  const int64_t *shape;
  /// The name of each axis whose extent is −1, which may be empty; empty for the others. In one run,
  /// axes of the same name have equal extents.
  const char *const *axis_names;
  /// If elements are codes, they represent scale · (code − zero_point). Otherwise the scale is 0.
  float scale;
  int32_t zero_point;
} qm_port;

/// Number of inputs; 0 for a closed handle.
QM_API size_t qm_model_input_count(const qm_model *model);
/// Number of outputs; 0 for a closed handle.
QM_API size_t qm_model_output_count(const qm_model *model);
/// An input, in the order of the network.
QM_API qm_status qm_model_input(const qm_model *model, size_t index, qm_port *port);
/// An output, in the order of the network.
QM_API qm_status qm_model_output(const qm_model *model, size_t index, qm_port *port);

/// What the file says about itself under a key; NULL if it says nothing. Valid until the model is
/// closed. "producer", "source" (the name of the file that was converted) and "source.sha256"; the
/// options of the conversion as "recipe.bits" and so on; "sqnr.NAME", the measured SQNR of output NAME
/// in dB; everything else under its own key, such as "samples digest".
QM_API const char *qm_model_metadata(const qm_model *model, const char *key);
/// Number of entries of the metadata; 0 for a closed handle.
QM_API size_t qm_model_metadata_count(const qm_model *model);
/// The key of an entry; NULL if the index is out of range.
QM_API const char *qm_model_metadata_key(const qm_model *model, size_t index);

/// What the probes of a file say about a model on this machine.
typedef struct qm_self_test {
  /// sizeof(qm_self_test), set by the caller.
  size_t struct_size;
  /// Number of probes in the file.
  size_t probe_count;
  /// Number of probes whose outputs have the bits that the file states. If these are fewer than
  /// probe_count, this machine computes something else.
  size_t agreeing_count;
  /// SQNR in dB of the worst output, beside those of the float network: the median over the probes.
  /// Infinite if nothing differs.
  double median_sqnr;
  /// SQNR in dB of the worst probe of the worst output.
  double worst_sqnr;
  /// 1 if the inputs were made from noise: then the SQNR does not bound that of real inputs.
  int32_t made_inputs;
} qm_self_test;

/// Runs the probes of the file that the model was opened from, which is read again: an open model does
/// not hold them. QM_ERROR_USAGE if the file has no probes, or if the model was not opened from a path;
/// QM_ERROR_INVALID_INPUT if the file has changed.
QM_API qm_status qm_model_self_test(const qm_model *model, qm_self_test *result);
/// The same for a model that was opened from memory: `bytes` is the file.
QM_API qm_status qm_model_self_test_bytes(
    const qm_model *model, const void *bytes, size_t byte_count, qm_self_test *result);

// MARK: Sessions

/// Runs a model, one run at a time; holds the memory of runs.
typedef struct qm_session qm_session;

/// A session of a model. On failure `*session` is NULL.
QM_API qm_status qm_session_create(const qm_model *model, qm_session **session);
/// Closes a session; does nothing for NULL. A run in progress on another thread ends undisturbed.
QM_API void qm_session_close(qm_session *session);

/// An input of a run, in row-major order.
typedef struct qm_input {
  const void *data;
  /// Size of the elements, in bytes.
  size_t byte_count;
  /// The extent of each axis, outermost first.
  const int64_t *shape;
  size_t rank;
} qm_input;

/// Runs the model on copies of the inputs, which are in the order of the network. If the shapes are
/// those of the last run, nothing is allocated on one thread. QM_ERROR_INVALID_INPUT if an input does
/// not fit.
QM_API qm_status qm_session_run(qm_session *session, const qm_input *inputs, size_t input_count);

/// The shape of one input.
typedef struct qm_shape {
  /// The extent of each axis, outermost first.
  const int64_t *extents;
  size_t rank;
} qm_shape;

/// Memory for values and scratch of a run on inputs of these shapes, in bytes, known without running.
/// The inputs and outputs come in addition. QM_ERROR_UNSUPPORTED if it depends on the content of the
/// inputs, too.
QM_API qm_status qm_session_memory_needed(
    const qm_session *session, const qm_shape *shapes, size_t input_count, uint64_t *byte_count);
/// Allocates the memory of runs without copies on inputs of these shapes, filled with zeros.
QM_API qm_status qm_session_prepare(
    qm_session *session, const qm_shape *shapes, size_t input_count);
/// The memory of an input, to be filled. Valid until the shapes change or the session is closed.
QM_API qm_status qm_session_input(
    qm_session *session, size_t index, void **data, size_t *byte_count);
/// Runs on the content of the inputs' memory: copies nothing and, on one thread, allocates nothing.
QM_API qm_status qm_session_run_in_place(qm_session *session);

/// An output of the last run.
typedef struct qm_output {
  /// sizeof(qm_output), set by the caller.
  size_t struct_size;
  /// A qm_element_type.
  int32_t element_type;
  int32_t rank;
  /// The extent of each axis, outermost first.
  const int64_t *shape;
  /// The elements, in row-major order.
  const void *data;
  /// Size of the elements, in bytes.
  size_t byte_count;
} qm_output;

/// An output of the last run, in the session's memory. Its pointers are valid until the next run,
/// until the shapes change, or until the session is closed.
QM_API qm_status qm_session_output(qm_session *session, size_t index, qm_output *output);
/// Copies an output of the last run to memory of exactly its size, which qm_session_output tells.
QM_API qm_status qm_session_copy_output(
    qm_session *session, size_t index, void *data, size_t byte_count);

/// Ends the run in progress, if there is one, within milliseconds: it returns QM_ERROR_CANCELLED. The
/// next run is not affected. May be called at any time, from any thread.
QM_API qm_status qm_session_cancel(qm_session *session);

#ifdef __cplusplus
}
#endif
#endif

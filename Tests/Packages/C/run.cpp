// Runs a model from C++ on several threads and compares each byte of its outputs with what qrun wrote.
// usage: run model.qm input.npy expected.npy
#include <qm.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "npy.h"

namespace {

void check(qm_status status) {
  if (status != QM_OK) throw std::runtime_error(qm_last_error());
}

void expect(bool condition, const char *what) {
  if (!condition) throw std::runtime_error(what);
}

using Model = std::unique_ptr<qm_model, decltype(&qm_model_close)>;
using Session = std::unique_ptr<qm_session, decltype(&qm_session_close)>;

Model open(const char *path) {
  qm_model *model;
  check(qm_model_open(path, nullptr, &model));
  return {model, qm_model_close};
}

Session create(const Model &model) {
  qm_session *session;
  check(qm_session_create(model.get(), &session));
  return {session, qm_session_close};
}

}  // namespace

int main(int count, char **arguments) try {
  if (count != 4) return 64;
  size_t size, expected_size;
  const unsigned char *input = read_npy(arguments[2], &size);
  const unsigned char *expected = read_npy(arguments[3], &expected_size);
  Model model = open(arguments[1]);
  const std::vector<int64_t> shape{static_cast<int64_t>(size / 4 / 64), 64};
  const qm_input given{input, size, shape.data(), shape.size()};

  // Each thread has a session of the one model.
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; number++) {
    threads.emplace_back([&] {
      Session session = create(model);
      for (int run = 0; run < 100; run++) {
        qm_output output{};
        output.struct_size = sizeof output;
        if (qm_session_run(session.get(), &given, 1) == QM_OK &&
            qm_session_output(session.get(), 0, &output) == QM_OK &&
            output.byte_count == expected_size &&
            std::memcmp(output.data, expected, expected_size) == 0) {
          right++;
        }
      }
    });
  }
  for (auto &thread : threads) thread.join();
  expect(right == 400, "a run on one of several threads differs");

  // One session for several threads: a call is done, or refused.
  Session shared = create(model);
  std::atomic<int> done{0}, refused{0};
  threads.clear();
  for (int number = 0; number < 4; number++) {
    threads.emplace_back([&] {
      for (int run = 0; run < 1000; run++) {
        switch (qm_session_run(shared.get(), &given, 1)) {
          case QM_OK: done++; break;
          case QM_ERROR_USAGE: refused++; break;
          default: break;
        }
      }
    });
  }
  for (auto &thread : threads) thread.join();
  expect(done > 0 && done + refused == 4000, "a call was neither done nor refused");
  std::printf("C++: %zu bytes as qrun's\n", expected_size);
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "run.cpp: %s\n", error.what());
  return 1;
}

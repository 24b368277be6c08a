import QMReport
import QMTensor

/// Steps of training as lines of JSON.
final class StepLog {
  private let path: String
  private let file: UnsafeMutablePointer<FILE>
  private let encoder = JSONEncoder()
  private var failure: QMError?

  /// - Throws: `cannotWrite`.
  init(path: String) throws(QMError) {
    self.path = path
    encoder.outputFormatting = [.sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    guard let file = fopen(path, "w") else {
      throw QMError.cannotWrite("the log cannot be created").within(.file(path))
    }
    self.file = file
  }

  deinit { fclose(file) }

  /// Appends a step; a failure is told by ``finish()``.
  func append(_ step: StepReport) {
    guard failure == nil, let line = try? encoder.encode(step) else { return }
    let text = String(decoding: line, as: UTF8.self) + "\n"
    if fputs(text, file) < 0 || fflush(file) != 0 {
      failure = QMError.cannotWrite("the log cannot be written").within(.file(path))
    }
  }

  /// - Throws: `cannotWrite` if a step could not be written.
  func finish() throws(QMError) {
    if let failure { throw failure }
  }
}

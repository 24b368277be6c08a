import Foundation
import QMReport
import QMTensor

/// Steps of training as lines of JSON.
final class StepLog {
  private let path: String
  private let handle: FileHandle
  private let encoder = JSONEncoder()
  private var failure: QMError?

  /// - Throws: `cannotWrite`.
  init(path: String) throws(QMError) {
    self.path = path
    encoder.outputFormatting = [.sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    guard FileManager.default.createFile(atPath: path, contents: nil),
      let handle = FileHandle(forWritingAtPath: path)
    else { throw QMError.cannotWrite("the log cannot be created").within(.file(path)) }
    self.handle = handle
  }

  /// Appends a step; a failure is told by ``finish()``.
  func append(_ step: StepReport) {
    guard failure == nil, let line = try? encoder.encode(step) else { return }
    do {
      try handle.write(contentsOf: line + Data("\n".utf8))
    } catch {
      failure = QMError.cannotWrite("the log cannot be written").within(.file(path))
    }
  }

  /// - Throws: `cannotWrite` if a step could not be written.
  func finish() throws(QMError) {
    try? handle.close()
    if let failure { throw failure }
  }
}

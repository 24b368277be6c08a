import QMReport
import QMTensor

/// The output of a tool: results on standard output, everything else on standard error.
final class Console {
  let tool: String
  let isQuiet: Bool
  /// Whether the result is one JSON object instead of text.
  let isJSON: Bool
  private let isTerminal = isatty(2) == 1
  private var outputFailure: QMError?
  private var outputIsGone = false

  // Progress.
  private let clock = ContinuousClock()
  private let started = ContinuousClock().now
  private var phase = ""
  private var phaseStarted = ContinuousClock().now
  private var lastShown: ContinuousClock.Instant?
  private var barIsShown = false

  /// Time between lines of progress where standard error is not a terminal.
  private static let plainInterval = Duration.seconds(10)

  init(tool: String, _ options: ConsoleOptions) {
    self.tool = tool
    isQuiet = options.quiet
    isJSON = options.json
  }

  // MARK: Results

  /// Prints a line of the result; does nothing with `--json`.
  func line(_ text: String = "") {
    if !isJSON { write(text.printable + "\n") }
  }

  /// Prints a table with aligned columns; does nothing with `--json`.
  /// - Parameter trailing: the columns that are right-aligned.
  func table(_ header: [String], _ rows: [[String]], trailing: Set<Int> = []) {
    guard !isJSON else { return }
    let cells = ([header] + rows).map { $0.map(\.printable) }
    let widths = header.indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
    for row in cells {
      let padded = row.enumerated().map { column, cell in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return trailing.contains(column) ? space + cell : cell + space
      }
      let text = ("  " + padded.joined(separator: "  ")).reversed().drop { $0 == " " }.reversed()
      line(String(text))
    }
  }

  /// Prints the result as JSON; does nothing without `--json`.
  func json(_ report: some Report) throws(QMError) {
    if isJSON { write(try report.json() + "\n") }
  }

  /// Must be called after the last result.
  /// - Throws: `cannotWrite` if results could not be written to standard output. A closed pipe is
  ///   not an error.
  func finish() throws(QMError) {
    clearProgress()
    if let outputFailure { throw outputFailure }
  }

  private func write(_ text: String) {
    guard !outputIsGone else { return }
    clearProgress()
    if let reason = Console.write(text, to: 1) {
      outputIsGone = true
      if reason != EPIPE {
        outputFailure = QMError.cannotWrite(String(cString: strerror(reason)))
          .within(.file("standard output"))
      }
    }
  }

  // MARK: Everything else

  static func writeError(_ line: String) { _ = write(line + "\n", to: 2) }

  /// Prints a remark on standard error.
  func note(_ text: String) {
    guard !isQuiet else { return }
    clearProgress()
    Console.writeError("\(tool): \(text.printable)")
  }

  /// Shows the progress: a bar on a terminal, otherwise a line every ten seconds.
  /// - Parameters:
  ///   - phase: the current phase, such as "calibrating".
  ///   - done: the number of steps done.
  ///   - total: the number of all steps; 0 if the phase is not divided into steps.
  func progress(_ phase: String, done: Int = 0, of total: Int = 0) {
    guard !isQuiet else { return }
    let now = clock.now
    let isNewPhase = phase != self.phase
    if isNewPhase { (self.phase, phaseStarted) = (phase, now) }
    let count = total > 0 ? " \(done) of \(total)" : ""
    if isTerminal {
      if !isNewPhase, done < total, let lastShown, now - lastShown < .milliseconds(100) { return }
      var text = phase + count
      if total > 0 {
        let filled = 24 * done / total
        let bar = String(repeating: "#", count: filled) + String(repeating: "·", count: 24 - filled)
        text = "[\(bar)] " + text
        if done > 0, done < total {
          let left = (now - phaseStarted) * (total - done) / done
          text += ", \(left.components.seconds + 1) s left"
        }
      }
      _ = Console.write("\r\u{1B}[K" + text, to: 2)
      barIsShown = true
    } else {
      guard now - (lastShown ?? started) >= Console.plainInterval else { return }
      Console.writeError("\(tool): \(phase)\(count)")
    }
    lastShown = now
  }

  func clearProgress() {
    guard barIsShown else { return }
    _ = Console.write("\r\u{1B}[K", to: 2)
    barIsShown = false
  }

  /// Writes all of `text`.
  /// - Returns: nil, or the `errno` of the failed write.
  private static func write(_ text: String, to descriptor: Int32) -> Int32? {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let written = bytes.withUnsafeBytes {
        QMReport.write(descriptor, $0.baseAddress!, $0.count)
      }
      if written < 0 {
        if errno == EINTR { continue }
        return errno
      }
      bytes = bytes.dropFirst(written)
    }
    return nil
  }
}

import ArgumentParser
import QMReport
import QMTensor

/// Where a report is written besides standard output.
struct ReportOptions: ParsableArguments {
  @Option(
    name: .customLong("report"),
    help: ArgumentHelp(
      """
      Write a report: a page to look at (.html), or its numbers (.json), with the error of each inner \
      value, and bits and codes of each weight tensor.
      """,
      valueName: "report.html|.json"),
    completion: .file())
  var path: String?

  /// Whether a report is written.
  var isAsked: Bool { path != nil }

  func validate() throws {
    guard let path else { return }
    guard isPage || path.lowercased().hasSuffix(".json") else {
      throw ValidationError("--report \(path): expected a name that ends in .html or .json")
    }
  }

  private var isPage: Bool { path?.lowercased().hasSuffix(".html") == true }

  /// Checks, before long work, that the report can be written.
  /// - Parameter others: files that the command reads or writes.
  /// - Throws: `cannotWrite`; `usage` if the report would replace one of the others.
  func requireWritable(besides others: [String?]) throws(QMError) {
    guard let path else { return }
    guard !others.compactMap(\.self).contains(where: { $0 == path || Process.isSameFile($0, path) })
    else {
      throw QMError.usage("the report is another file of the command; give another name")
        .within(.file(path))
    }
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: path) }
  }

  /// Writes the report, if one is asked for.
  /// - Throws: `cannotWrite`.
  func write(_ report: some PageReport, _ console: Console) throws(QMError) {
    guard let path else { return }
    let bytes = isPage ? report.page.bytes : Array((try report.json() + "\n").utf8)
    try Process.uninterrupted { () throws(QMError) in try AtomicFile.write(bytes, to: path) }
    console.line("report written to \(path)")
  }
}

import QMONNX
import QMReport
import QMTensor

/// `qconvert --list-operators`: lists all supported operators.
public enum OperatorListing {
  private struct Row: Report {
    let name: String
    let opsets: [Int]
    let runs: String
    let note: String
  }

  /// Prints the table and ends the process if the option is given.
  public static func startIfAsked() {
    let arguments = CommandLine.arguments.dropFirst()
    guard arguments.contains("--list-operators"), !arguments.contains("--help") else { return }
    let unknown = arguments.filter { !["--list-operators", "--json", "--quiet"].contains($0) }
    Process.prepare()
    do throws(QMError) {
      if let first = unknown.first {
        throw QMError.usage(
          "--list-operators takes no other argument; leave out '\(first.abbreviated)'")
      }
      var options = ConsoleOptions()
      (options.json, options.quiet) = (arguments.contains("--json"), false)
      let console = Console(tool: "qconvert", options)
      for line in OperatorTable.markdown { console.line(line) }
      try console.json(
        OperatorTable.sorted.map {
          Row(
            name: $0.name, opsets: [$0.opsets.lowerBound, $0.opsets.upperBound],
            runs: $0.modeName, note: $0.note)
        })
      try console.finish()
      Process.end(0)
    } catch {
      Console.writeError("qconvert: \(error.line)")
      Process.end(error.code.exitStatus)
    }
  }
}

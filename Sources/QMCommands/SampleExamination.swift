import QMGraph
import QMReport
import QMTensor

/// Maximum number of remarks to print; the rest is counted.
private let printedRemarks = 20

extension SampleSource {
  /// Loads every sample once and prints one line for each probable mistake.
  /// - Throws: the error of the first unusable sample, with the names of the other unusable ones.
  func examine(for graph: Graph, _ console: Console) throws(QMError) {
    var checks = SampleChecks(graph)
    var failure: QMError?
    var others: [String] = []
    for index in 0..<count {
      do {
        checks.examine(try inputs(of: index), sample: name(of: index))
      } catch {
        if failure == nil { failure = error } else { others.append(name(of: index)) }
      }
      console.progress("checking samples", done: index + 1, of: count)
    }
    if let failure {
      guard !others.isEmpty else { throw failure }
      throw QMError(
        failure.code,
        failure.message + "; also unusable: \(others.listed)",
        remedies: failure.remedies, context: failure.context)
    }
    let remarks = checks.remarks
    for remark in remarks.prefix(printedRemarks) {
      let place = [
        remark.sample.map { "sample '\($0.abbreviated)'" },
        remark.input.map { "input '\($0.abbreviated)'" },
      ].compactMap(\.self)
      console.note((place + [remark.text]).joined(separator: ": "))
    }
    if remarks.count > printedRemarks {
      console.note("\(remarks.count - printedRemarks) more remarks on the samples")
    }
  }
}

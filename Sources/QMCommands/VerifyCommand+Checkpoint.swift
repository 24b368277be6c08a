import QMFormat
import QMReport
import QMRuntime
import QMTensor

/// `qverify out.qm weights.npz`: compares a checkpoint with the arrays that it was converted from.
extension VerifyCommand {
  func compareArrays(
    _ program: Program, _ opened: QMFile, _ arrays: [(name: String, tensor: Tensor)],
    _ console: Console
  ) throws(QMError) {
    guard reference == nil else {
      throw QMError.usage(
        "the file holds arrays without a network; leave --reference out, and give the arrays"
      ).within(.file(file))
    }
    let model = try within(.file(file)) { () throws(QMError) in
      try Model(program, options: machine.modelOptions)
    }
    // The arrays are already computed unless memory is compact.
    let weights = model.weights
    let found = weights.count == model.outputs.count ? weights : try model.run([:])
    let expected = try matched(arrays, to: model.outputs.map(\.name))
    var reports: [OutputReport] = []
    var failure: QMError?
    for (index, port) in model.outputs.enumerated() {
      guard let measured = found[port.name], let given = expected[port.name] else { continue }
      try within(.value(port.name)) { () throws(QMError) in
        let truth = measured.elementType == .float32 ? try given.converted(to: .float32) : given
        guard truth.shape == measured.shape, truth.elementType == measured.elementType else {
          throw QMError(
            .outOfTolerance,
            "found \(measured), expected \(given) as in \(samples ?? "the archive")")
        }
        var comparison = OutputComparison()
        try comparison.add(reference: truth, measured: measured)
        reports.append(OutputReport(port.name, comparison))
        let isIdentical = truth.isIdentical(to: measured)
        if failure == nil,
          let problem = problem(with: comparison.whole, isIdentical, port.name, program)
        {
          failure = QMError(
            .outOfTolerance, problem, context: [.file(file), .value(port.name)])
        }
      }
      console.progress("comparing", done: index + 1, of: model.outputs.count)
    }
    console.line(
      "structure and checksums are valid: \(Units.bytes(opened.container.byteCount)), "
        + "\(Units.count(program.outputs.count, "array"))")
    console.line("compared with \(samples ?? "the arrays")")
    console.table(
      ["array", "SQNR", "largest difference", "cosine"],
      reports.map {
        [
          $0.name.abbreviated, Units.decibels($0.signalToNoiseDecibels),
          Units.significant($0.largestDifference), Units.fixed($0.cosine, 6),
        ]
      }, trailing: [1, 2, 3])
    let report = CheckpointVerificationReport(
      file: file, bytes: opened.container.byteCount, arrays: reports, passed: failure == nil)
    try reportOptions.write(report, console)
    try console.json(report)
    try console.finish()
    if let failure { throw failure }
  }

  /// The arrays by their names in the file. A single array may have any name.
  private func matched(_ arrays: [(name: String, tensor: Tensor)], to names: [String])
    throws(QMError) -> [String: Tensor]
  {
    if arrays.count == 1, names.count == 1 { return [names[0]: arrays[0].tensor] }
    let given = Dictionary(arrays.map { ($0.name, $0.tensor) }) { first, _ in first }
    let missing = names.filter { given[$0] == nil }
    let unknown = Set(given.keys).subtracting(names).sorted()
    guard missing.isEmpty, unknown.isEmpty else {
      let parts = [
        missing.isEmpty ? nil : "only the file has \(missing.listed)",
        unknown.isEmpty ? nil : "only \(samples ?? "the archive") has \(unknown.listed)",
      ]
      throw QMError(
        .outOfTolerance, parts.compactMap(\.self).joined(separator: "; "), context: [.file(file)])
    }
    return given
  }

  /// Why an array is not accepted; nil if it is.
  private func problem(
    with comparison: Comparison, _ isIdentical: Bool, _ name: String, _ program: Program
  ) -> String? {
    let ratio = comparison.signalToNoise
    if let tolerance {
      guard !(ratio >= tolerance) else { return nil }
      return "SQNR \(Units.decibels(ratio)) is under \(Units.decibels(tolerance)), --tolerance"
    }
    guard let stored = stored(name, program) else {
      return isIdentical ? nil : "the elements differ, although the file stores the array exactly"
    }
    let required = stored - VerifyCommand.allowedLoss
    guard !(ratio >= required) else { return nil }
    return "SQNR \(Units.decibels(ratio)) is under \(Units.decibels(required)), "
      + "\(Units.decibels(VerifyCommand.allowedLoss)) less than the \(Units.decibels(stored)) that "
      + "the file states"
  }
}

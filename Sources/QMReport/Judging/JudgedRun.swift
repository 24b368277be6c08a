import QMFormat
import QMRuntime
import QMTensor

/// Runs a program for its outputs and for the inner values that are judged in place of outputs.
package struct JudgedRun: Sendable {
  /// The results of a run.
  package struct Results: Sendable {
    package let outputs: [String: Tensor]
    /// Elements by the name of the value; codes are dequantized.
    package let innerValues: [String: [Float]]

    package var byteCount: Int {
      outputs.values.reduce(0) { $0 + $1.byteCount }
        + innerValues.values.reduce(0) { $0 + 4 * $1.count }
    }
  }

  /// Names of the inner values, by index in the program.
  private let names: [Int: String]

  package init(_ program: Program, _ parts: JudgedParts) {
    let wanted = parts.innerValues
    var names: [Int: String] = [:]
    for (index, value) in program.values.enumerated() where wanted.contains(value.name) {
      names[index] = value.name
    }
    self.names = names
  }

  /// - Parameter observe: called with every value of the run.
  package func callAsFunction(
    _ session: Session, _ inputs: [String: Tensor],
    observing observe: ((_ value: Int, _ view: ValueView) -> Void)? = nil
  ) throws(QMError) -> Results {
    guard !names.isEmpty || observe != nil else {
      return Results(outputs: try session.run(inputs), innerValues: [:])
    }
    var innerValues: [String: [Float]] = [:]
    let outputs = try session.run(
      inputs,
      observing: { (index, view) throws(QMError) in
        observe?(index, view)
        if let name = names[index] { innerValues[name] = view.dequantized }
      })
    return Results(outputs: outputs, innerValues: innerValues)
  }
}

extension OutputComparison {
  /// Adds one sample of an output from runs of both networks.
  package mutating func add(
    _ output: String, reference: JudgedRun.Results, measured: JudgedRun.Results
  ) throws(QMError) {
    guard let left = reference.outputs[output], let right = measured.outputs[output] else { return }
    var innerValues: [String: (reference: [Float], measured: [Float])] = [:]
    for (name, numbers) in reference.innerValues {
      if let found = measured.innerValues[name] { innerValues[name] = (numbers, found) }
    }
    try add(reference: left, measured: right, innerValues: innerValues)
  }
}

import QMFormat
import QMRuntime
import QMTensor

/// Runs a program for its outputs, and for the inner values and next steps that are judged in place
/// of outputs.
package struct JudgedRun: Sendable {
  /// The results of a run.
  package struct Results: Sendable {
    package let outputs: [String: Tensor]
    /// Elements by the name of the value; codes are dequantized.
    package let innerValues: [String: (elements: [Float], shape: [Int])]

    package init(
      outputs: [String: Tensor], innerValues: [String: (elements: [Float], shape: [Int])]
    ) {
      self.outputs = outputs
      self.innerValues = innerValues
    }

    /// The results of one item of a batch. Those whose first axis does not count the items belong to
    /// each of them.
    /// - Parameter count: number of items of the batch.
    func item(_ index: Int, of count: Int) throws(QMError) -> Results {
      var own = outputs
      for (name, tensor) in outputs where tensor.shape.first == count {
        own[name] = try Tensor(
          tensor.elementType, [1] + tensor.shape.dropFirst(), buffer: tensor.buffer,
          byteOffset: tensor.byteOffset + index * (tensor.byteCount / count))
      }
      let innerValues = innerValues.mapValues { elements, shape in
        guard shape.first == count else { return (elements, shape) }
        let length = elements.count / count
        return (
          Array(elements[index * length..<(index + 1) * length]), [1] + shape.dropFirst()
        )
      }
      return Results(outputs: own, innerValues: innerValues)
    }

    package var byteCount: Int {
      outputs.values.reduce(0) { $0 + $1.byteCount }
        + innerValues.values.reduce(0) { $0 + 4 * $1.elements.count }
    }
  }

  /// Names of the inner values, by index in the program.
  private let names: [Int: String]
  private let states: States

  package init(_ program: Program, _ parts: JudgedParts) {
    let wanted = parts.innerValues
    var names: [Int: String] = [:]
    for (index, value) in program.values.enumerated() where wanted.contains(value.name) {
      names[index] = value.name
    }
    self.names = names
    states = parts.states
  }

  /// - Parameter observe: called with every value of the run.
  package func callAsFunction(
    _ session: Session, _ inputs: [String: Tensor],
    observing observe: ((_ value: Int, _ view: ValueView) -> Void)? = nil
  ) throws(QMError) -> Results {
    guard !names.isEmpty || observe != nil else {
      return Results(outputs: try session.run(inputs), innerValues: [:])
    }
    var innerValues: [String: (elements: [Float], shape: [Int])] = [:]
    let outputs = try session.run(
      inputs,
      observing: { (index, view) throws(QMError) in
        observe?(index, view)
        if let name = names[index], let elements = view.dequantized {
          innerValues[name] = (elements, view.shape)
        }
      })
    return Results(outputs: outputs, innerValues: innerValues)
  }

  /// Runs the program one more step from the states of a reference, and from those that were
  /// measured, with the other inputs as before; nil if the network has no states, or one is missing,
  /// or if there is no next step: a cache may be full.
  package func nextStep(
    _ session: Session, _ inputs: [String: Tensor], reference: Results, measured: Results
  ) -> (reference: Results, measured: Results)? {
    guard !states.inputs.isEmpty, let left = states.nextInputs(inputs, reference.outputs),
      let right = states.nextInputs(inputs, measured.outputs)
    else { return nil }
    guard let reference = try? self(session, left), let measured = try? self(session, right) else {
      return nil
    }
    return (reference, measured)
  }
}

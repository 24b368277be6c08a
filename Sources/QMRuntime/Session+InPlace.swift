import QMOperations
import QMTensor

/// Runs on memory of the session's own, which the caller writes and reads where it lies: once
/// ``prepare(_:)`` has been called, nothing is copied, and on one thread nothing allocated.
///
///     try session.prepare([[1, 64]])
///     session.withInput(0) { bytes in … }
///     try session.runInPlace()
///     session.withOutput(0) { bytes in … }
extension Session {
  /// What a run in place works on.
  struct Preparation {
    let inputs: [Tensor]
    let addresses: [UnsafeMutableRawPointer]
    /// nil where the plan waits for what the switch inputs will hold.
    var planned: Planned?
  }

  struct Planned {
    let plan: ExecutionPlan
    let outputs: [UnsafeRawBufferPointer]
    let outputShapes: [[Int]]
  }

  /// Makes memory for inputs of these extents, zeros at first.
  /// - Parameter extents: of each input, in the order of ``Model/inputs``.
  /// - Throws: `invalidInput` if they do not fit the model; `outOfMemory`.
  public func prepare(_ extents: [[Int]]) throws(QMError) {
    guard extents.count == model.inputs.count else {
      throw .invalidInput(
        "found extents of \(extents.count) inputs, expected \(model.inputs.count)")
    }
    var named: [String: Tensor] = [:]
    for (port, extents) in zip(model.inputs, extents) {
      named[port.name] = try within(.value(port.name)) { () throws(QMError) in
        guard port.type.shape.admits(extents) else {
          throw .invalidInput("found extents \(extents), expected \(port.type.shape)")
        }
        return try Tensor(zeros: port.type.elementType, extents)
      }
    }
    let inputs = try ordered(named)
    let addresses = inputs.map { $0.buffer.base + $0.byteOffset }
    var preparation = Preparation(inputs: inputs, addresses: addresses)
    if model.switchInputs.isEmpty {
      preparation.planned = try planned(for: preparation)
    } else {
      // Zeros may choose a branch that the extents do not fit.
      preparation.planned = try? planned(for: preparation)
    }
    self.preparation = preparation
  }

  private func planned(for preparation: Preparation) throws(QMError) -> Planned {
    let plan = try plan(
      for: preparation.inputs.map(\.shape),
      switches: model.switchInputs.flatMap { Array(preparation.inputs[$0].bytes) })
    var outputs: [UnsafeRawBufferPointer] = []
    var outputShapes: [[Int]] = []
    for output in model.program.outputs {
      guard let view = plan.view(of: output.value, inputs: preparation.addresses) else {
        throw .internalFault("output '\(output.name)' has no memory")
      }
      outputs.append(UnsafeRawBufferPointer(start: view.base, count: view.byteCount))
      outputShapes.append(view.shape)
    }
    return Planned(plan: plan, outputs: outputs, outputShapes: outputShapes)
  }

  /// Lends the memory of an input, in the order of ``Model/inputs``. A session must be prepared.
  public func withInput<R, E: Error>(
    _ index: Int, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let input = prepared.inputs[index]
    return try body(
      UnsafeMutableRawBufferPointer(start: prepared.addresses[index], count: input.byteCount))
  }

  /// Runs on what the inputs' memory holds. A session must be prepared.
  /// - Throws: `invalidInput` where data contradicts the shapes.
  public func runInPlace() throws(QMError) {
    let preparation = prepared
    for input in preparation.inputs { try Session.checkTruthValues(input) }
    let plan = try currentPlan(of: preparation)
    plan.bind(preparation.addresses)
    try execute(plan)
  }

  /// The plan for what the switch inputs hold now.
  private func currentPlan(of preparation: Preparation) throws(QMError) -> ExecutionPlan {
    if let planned = preparation.planned, isCurrent(planned.plan, preparation) {
      return planned.plan
    }
    self.preparation?.planned = nil
    let planned = try planned(for: preparation)
    self.preparation?.planned = planned
    return planned.plan
  }

  private func isCurrent(_ plan: ExecutionPlan, _ preparation: Preparation) -> Bool {
    var place = 0
    for position in model.switchInputs {
      for byte in preparation.inputs[position].bytes {
        guard plan.switches[place] == byte else { return false }
        place += 1
      }
    }
    return true
  }

  /// Lends the memory of an output, in the order of ``Model/outputs``, until the next run.
  /// A session must be prepared. Empty before the first run of a model whose inputs choose a branch:
  /// that is no trap, since the file decides it and not the caller.
  public func withOutput<R, E: Error>(
    _ index: Int, _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let outputs = prepared.planned?.outputs
    return try body(outputs.map { $0[index] } ?? UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// Shape of each output, in the order of ``Model/outputs``; empty before the first run of a model
  /// whose inputs choose a branch. A session must be prepared.
  public var outputExtents: [[Int]] { prepared.planned?.outputShapes ?? [] }

  private var prepared: Preparation {
    guard let preparation else {
      preconditionFailure("call prepare(_:) before the session's memory is used")
    }
    return preparation
  }
}

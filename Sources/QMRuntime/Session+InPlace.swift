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
    let plan: ExecutionPlan
    let inputs: [Tensor]
    let addresses: [UnsafeMutableRawPointer]
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
    let plan = try plan(for: extents)
    var outputs: [UnsafeRawBufferPointer] = []
    var outputShapes: [[Int]] = []
    for output in model.program.outputs {
      guard let view = plan.view(of: output.value, inputs: addresses) else {
        throw .internalFault("output '\(output.name)' has no memory")
      }
      outputs.append(UnsafeRawBufferPointer(start: view.base, count: view.byteCount))
      outputShapes.append(view.shape)
    }
    preparation = Preparation(
      plan: plan, inputs: inputs, addresses: addresses, outputs: outputs,
      outputShapes: outputShapes)
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
    preparation.plan.bind(preparation.addresses)
    try withStandardFloatEnvironment { () throws(QMError) in
      threads.beginRun()
      defer { threads.endRun() }
      for step in preparation.plan.steps { try run(step, of: preparation.plan) }
    }
  }

  /// Lends the memory of an output, in the order of ``Model/outputs``, until the next run.
  /// A session must be prepared.
  public func withOutput<R, E: Error>(
    _ index: Int, _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(prepared.outputs[index])
  }

  /// Extents of the outputs, in the order of ``Model/outputs``. A session must be prepared.
  public var outputExtents: [[Int]] { prepared.outputShapes }

  private var prepared: Preparation {
    guard let preparation else {
      preconditionFailure("call prepare(_:) before the session's memory is used")
    }
    return preparation
  }
}

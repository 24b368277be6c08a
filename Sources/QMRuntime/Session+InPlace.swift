import QMOperations
import QMTensor

/// Runs in the session's own memory, which the caller writes and reads directly: after
/// ``prepare(_:)`` a run copies nothing and, on one thread, allocates nothing.
///
///     try session.prepare([[1, 64]])
///     session.withInput(0) { bytes in … }
///     try session.runInPlace()
///     session.withOutput(0) { bytes in … }
extension Session {
  /// The memory of runs in place.
  struct Preparation {
    let inputs: [Tensor]
    let addresses: [UnsafeMutableRawPointer]
    /// nil while the plan must wait for the content of the switch inputs.
    var planned: Planned?
  }

  /// A plan with its outputs in the arena.
  struct Planned {
    let plan: ExecutionPlan
    let outputs: [UnsafeRawBufferPointer]
    let outputShapes: [[Int]]
  }

  /// Allocates memory for inputs of these shapes, filled with zeros.
  /// - Parameter shapes: the shape of each input, in the order of ``Model/inputs``.
  /// - Throws: `invalidInput` if they do not fit the model; `outOfMemory`; `usage` if a run of the
  ///   session is in progress.
  public func prepare(_ shapes: [[Int]]) throws(QMError) {
    try asRun { () throws(QMError) in
      preparation = try preparation(for: shapes)
    }
  }

  /// Zeros of these shapes, in the order of the inputs.
  /// - Parameter memory: allocates the bytes of one input.
  /// - Throws: `invalidInput` if the shapes do not fit the model; `outOfMemory`.
  func zeros(
    _ shapes: [[Int]], _ memory: (_ byteCount: Int) throws(QMError) -> Buffer
  ) throws(QMError) -> [Tensor] {
    guard shapes.count == model.inputs.count else {
      throw .invalidInput(
        "found \(shapes.count) shapes, expected one per input: \(model.inputs.count)")
    }
    var named: [String: Tensor] = [:]
    for (port, shape) in zip(model.inputs, shapes) {
      named[port.name] = try within(.value(port.name)) { () throws(QMError) in
        guard port.type.shape.admits(shape) else {
          throw .invalidInput("found shape \(shape), expected \(port.type.shape)")
        }
        let type = port.type.elementType
        return try Tensor(type, shape, buffer: memory(Tensor.byteCount(of: type, shape)))
      }
    }
    return try ordered(named)
  }

  private func preparation(for shapes: [[Int]]) throws(QMError) -> Preparation {
    let inputs = try zeros(shapes) { (byteCount) throws(QMError) in
      try Buffer.allocate(byteCount: byteCount)
    }
    let addresses = inputs.map { $0.buffer.base + $0.byteOffset }
    var preparation = Preparation(inputs: inputs, addresses: addresses)
    do throws(QMError) {
      preparation.planned = try planned(for: preparation)
    } catch {
      // Where data decides, an error is no reason to fail here: zeros may choose a branch that the
      // shapes do not fit.
      let dataDecides = !model.switchInputs.isEmpty || isDecidedByData
      if error == .cancelled() || !dataDecides { throw error }
    }
    return preparation
  }

  private func planned(for preparation: Preparation) throws(QMError) -> Planned {
    let plan = try plan(for: preparation.inputs)
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

  /// Calls `body` with the memory of an input, to be filled.
  /// - Parameters:
  ///   - index: the index of the input in ``Model/inputs``.
  ///   - body: receives the bytes, which are valid during the call only.
  /// - Precondition: the session is prepared.
  public func withInput<R, E: Error>(
    _ index: Int, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let input = prepared.inputs[index]
    return try body(
      UnsafeMutableRawBufferPointer(start: prepared.addresses[index], count: input.byteCount))
  }

  /// Runs on the content of the inputs' memory.
  /// - Precondition: the session is prepared.
  /// - Throws: `invalidInput` if data contradicts the shapes, such as an index out of range;
  ///   `cancelled` after ``cancel()``; `usage` if another run of the session is in progress.
  public func runInPlace() throws(QMError) {
    let preparation = prepared
    for input in preparation.inputs { try Session.checkBools(input) }
    try asRun { () throws(QMError) in
      let plan = try currentPlan(of: preparation)
      plan.bind(preparation.addresses)
      try execute(plan)
    }
  }

  /// The plan for the current content of the switch inputs.
  private func currentPlan(of preparation: Preparation) throws(QMError) -> ExecutionPlan {
    if let planned = preparation.planned, isCurrent(planned.plan, preparation) {
      return planned.plan
    }
    self.preparation?.planned = nil
    let planned = try planned(for: preparation)
    self.preparation?.planned = planned
    return planned.plan
  }

  /// Whether the plan was made for the current content of the switch inputs.
  private func isCurrent(_ plan: ExecutionPlan, _ preparation: Preparation) -> Bool {
    guard plan.request.known.isEmpty else { return false }
    var place = 0
    for position in model.switchInputs {
      for byte in preparation.inputs[position].bytes {
        guard plan.request.switches[place] == byte else { return false }
        place += 1
      }
    }
    return true
  }

  /// Calls `body` with the bytes of an output of the last run. They are empty before the first run
  /// of a model whose inputs choose a branch. (Not a trap: the file decides this, not the caller.)
  /// - Parameters:
  ///   - index: the index of the output in ``Model/outputs``.
  ///   - body: receives the bytes, which are valid during the call only.
  /// - Precondition: the session is prepared.
  public func withOutput<R, E: Error>(
    _ index: Int, _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let outputs = prepared.planned?.outputs
    return try body(outputs.map { $0[index] } ?? UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// The shape of each output, in the order of ``Model/outputs``; empty before the first run of a
  /// model whose inputs choose a branch.
  /// - Precondition: the session is prepared.
  public var outputExtents: [[Int]] { prepared.planned?.outputShapes ?? [] }

  private var prepared: Preparation {
    guard let preparation else {
      preconditionFailure("call prepare(_:) before the session's memory is used")
    }
    return preparation
  }
}

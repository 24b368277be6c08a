import QMFormat
import QMOperations
import QMTensor

/// One run at a time of a ``Model``: its memory, its threads, and a plan for each set of input shapes.
///
/// ``Model/run(_:)`` borrows a session for each call, which is enough for most apps. A session of
/// one's own runs in memory that it lends to the caller, so that nothing is copied and, on one
/// thread, nothing allocated:
///
/// ```swift
/// let session = Session(model)
/// try session.prepare([[1, 64]])          // shape of each input, in order
/// session.withInput(0) { bytes in bytes.copyBytes(from: pixelBytes) }
/// try session.runInPlace()
/// session.withOutput(0) { bytes in use(bytes) }
/// ```
///
/// A session belongs to one task at a time: it may move between threads, and must not be shared.
/// The model may be: make a session for each task.
public final class Session: @unchecked Sendable {
  /// What happens to a value as it is computed: its index in the program, and its bytes, valid
  /// during the call.
  public typealias Observer = (_ value: Int, _ view: TensorView) throws(QMError) -> Void

  /// What a plan is made for.
  private struct PlanKey: Equatable {
    let extents: [[Int]]
    let switches: [UInt8]
    let keepsAll: Bool
  }

  /// What the session runs.
  public let model: Model
  let threads: ThreadPool
  /// The most recently used last.
  private var plans: [(key: PlanKey, plan: ExecutionPlan)] = []
  /// What ``prepare(_:)`` left.
  var preparation: Preparation?

  /// A session without memory: it comes with the first run, or with ``prepare(_:)``.
  public init(_ model: Model) {
    self.model = model
    threads = ThreadPool(threadCount: model.options.threadCount)
  }

  /// Memory that values and scratch take for the input shapes of the last run, in bytes.
  public var arenaByteCount: Int { plans.last?.plan.byteCount ?? 0 }

  /// Runs the model once. See ``Model/run(_:)``.
  public func run(_ inputs: [String: Tensor]) throws(QMError) -> [String: Tensor] {
    try run(inputs, observer: nil, timer: nil)
  }

  /// Runs the model once and shows every value to `observer`: inputs first, then each node's
  /// outputs as they are computed.
  public func run(_ inputs: [String: Tensor], observing observer: Observer) throws(QMError)
    -> [String: Tensor]
  {
    try withoutActuallyEscaping(observer) { (observer) throws(QMError) in
      try run(inputs, observer: observer, timer: nil)
    }
  }

  /// Runs the model once and tells `timer` the node and kernel before each step; nil at the end.
  public func run(
    _ inputs: [String: Tensor], timing timer: (_ step: (node: Int, kernel: String)?) -> Void
  ) throws(QMError) -> [String: Tensor] {
    try withoutActuallyEscaping(timer) { (timer) throws(QMError) in
      try run(inputs, observer: nil, timer: timer)
    }
  }

  private func run(
    _ inputs: [String: Tensor], observer: Observer?,
    timer: ((_ step: (node: Int, kernel: String)?) -> Void)?
  ) throws(QMError) -> [String: Tensor] {
    try withStandardFloatEnvironment { () throws(QMError) in
      try runInStandardEnvironment(inputs, observer: observer, timer: timer)
    }
  }

  private func runInStandardEnvironment(
    _ inputs: [String: Tensor], observer: Observer?,
    timer: ((_ step: (node: Int, kernel: String)?) -> Void)?
  ) throws(QMError) -> [String: Tensor] {
    let tensors = try ordered(inputs)
    let plan = try plan(
      for: tensors.map(\.shape),
      switches: model.switchInputs.flatMap { Array(tensors[$0].bytes) },
      keepsAll: observer != nil)
    let addresses = tensors.map { $0.buffer.base + $0.byteOffset }
    plan.bind(addresses)
    defer { plan.unbindOutputs() }
    let buffers = try plan.bindOutputs()
    defer { withExtendedLifetime((tensors, buffers)) {} }

    if let observer {
      for value in plan.givenValues {
        if let view = plan.view(of: value, inputs: addresses) { try observer(value, view) }
      }
    }
    threads.beginRun()
    defer { threads.endRun() }
    for step in plan.steps {
      timer?((step.node, step.kernel.name))
      try run(step, of: plan)
      if let observer {
        for value in step.values {
          if let view = plan.view(of: value, inputs: addresses) { try observer(value, view) }
        }
      }
    }
    timer?(nil)

    var outputs: [String: Tensor] = [:]
    for (output, buffer) in zip(model.program.outputs, buffers) {
      guard let view = plan.view(of: output.value, inputs: addresses) else {
        throw .internalFault("output '\(output.name)' was not computed")
      }
      let own =
        if let buffer { buffer } else {
          try Buffer.copying(UnsafeRawBufferPointer(start: view.base, count: view.byteCount))
        }
      outputs[output.name] = try Tensor(view.elementType, view.shape, buffer: own)
    }
    return outputs
  }

  func run(_ step: ExecutionPlan.Step, of plan: ExecutionPlan) throws(QMError) {
    do { try plan.run(step, threads: threads) } catch {
      let node = model.program.nodes[step.node]
      throw error.within(.node(name: node.name, operation: node.operation.name))
    }
  }

  /// - Throws: `invalidInput` if a bool is neither 0 nor 1: a Swift Bool of another pattern is
  ///   undefined.
  static func checkTruthValues(_ tensor: Tensor) throws(QMError) {
    guard tensor.elementType != .bool || tensor.bytes.allSatisfy({ $0 <= 1 }) else {
      throw .invalidInput("a truth value is neither 0 nor 1")
    }
  }

  /// The inputs in the program's order.
  func ordered(_ inputs: [String: Tensor]) throws(QMError) -> [Tensor] {
    var tensors: [Tensor] = []
    /// Extents of named free axes, and the input that each comes from.
    var named: [String: (extent: Int, input: String)] = [:]
    for port in model.inputs {
      guard let tensor = inputs[port.name] else {
        throw QMError.invalidInput(
          "missing; given are \(Session.list(inputs.keys.sorted()))"
        ).within(.value(port.name))
      }
      guard tensor.elementType == port.type.elementType else {
        throw QMError.invalidInput(
          "found \(tensor.elementType), expected \(port.type.elementType)"
        ).within(.value(port.name))
      }
      guard port.type.shape.admits(tensor.shape) else {
        throw QMError.invalidInput(
          "found extents \(tensor.shape), expected \(port.type.shape)"
        ).within(.value(port.name))
      }
      guard tensor.elementCount > 0 else {
        throw QMError.invalidInput("extents \(tensor.shape) hold no element")
          .within(.value(port.name))
      }
      for case (.free(let name), let extent) in zip(port.type.shape.axes, tensor.shape)
      where !name.isEmpty {
        let known = named[name] ?? (extent, port.name)
        guard known.extent == extent else {
          throw QMError.invalidInput(
            "axis '\(name.abbreviated)' has extent \(extent) here and \(known.extent) in "
              + "'\(known.input.abbreviated)'"
          ).within(.value(port.name))
        }
        named[name] = known
      }
      try within(.value(port.name)) { () throws(QMError) in try Session.checkTruthValues(tensor) }
      tensors.append(tensor)
    }
    if inputs.count > model.inputs.count {
      let known = Set(model.inputs.map(\.name))
      let unknown = inputs.keys.filter { !known.contains($0) }.sorted()
      throw .invalidInput(
        "no input is named '\((unknown.first ?? "").abbreviated)'; inputs are "
          + Session.list(model.inputs.map(\.name)))
    }
    return tensors
  }

  private static func list(_ names: [String]) -> String {
    names.map { "'\($0.abbreviated)'" }.joined(separator: ", ")
  }

  /// - Parameter keepsAll: whether every value is to be seen.
  func plan(
    for extents: [[Int]], switches: [UInt8], keepsAll: Bool = false
  ) throws(QMError) -> ExecutionPlan {
    let key = PlanKey(extents: extents, switches: switches, keepsAll: keepsAll)
    if let index = plans.firstIndex(where: { $0.key == key }) {
      if index != plans.count - 1 { plans.append(plans.remove(at: index)) }
      return plans[plans.count - 1].plan
    }
    let plan = try ExecutionPlan(
      model, extents: extents, switches: switches, threadCount: threads.threadCount,
      keepsAll: keepsAll)
    if plans.count == model.options.cachedPlanCount { plans.removeFirst() }
    plans.append((key, plan))
    return plan
  }
}

import QMFormat
import QMOperations
import QMTensor

/// Runs a ``Model``, one run at a time. A session holds memory, threads, and a plan for each set of
/// input shapes.
///
/// ``Model/run(_:)`` borrows a session for each call, which suffices for most apps. An app that
/// makes its own session can write inputs and read outputs directly in the session's memory: then a
/// run copies nothing and, on one thread, allocates nothing:
///
/// ```swift
/// let session = Session(model)
/// try session.prepare([[1, 64]])          // shape of each input, in order
/// session.withInput(0) { bytes in bytes.copyBytes(from: pixelBytes) }
/// try session.runInPlace()
/// session.withOutput(0) { bytes in use(bytes) }
/// ```
///
/// Only one task may use a session at a time: it may move between threads, but must not be shared.
/// The model may be shared: make a session for each task.
public final class Session: @unchecked Sendable {
  /// Receives a value's index in the program and its elements.
  public typealias Observer = (_ value: Int, _ view: ValueView) throws(QMError) -> Void

  /// Receives the node and the kernel of each step when it begins, and nil when the last has ended.
  public typealias Timer = (_ step: (node: Int, kernel: String)?) -> Void

  /// What is called between the steps of a run.
  enum Attendant {
    case none
    case observer(Observer)
    case intercept(Intercept)
    case timer(Timer)

    /// Whether every value must exist (``ExecutionPlan``, `keepsAll`).
    var needsValues: Bool {
      switch self {
      case .none, .timer: false
      case .observer, .intercept: true
      }
    }
  }

  /// The model that the session runs.
  public let model: Model
  let threads: ThreadPool
  /// Cached plans; the most recently used is the last.
  private var plans: [ExecutionPlan] = []
  /// Requests that depend on data.
  private var decidingValues: [Deciding] = []
  /// Set by ``prepare(_:)``.
  var preparation: Preparation?

  /// A session of a model. It allocates memory in the first run or in ``prepare(_:)``.
  public init(_ model: Model) {
    self.model = model
    threads = ThreadPool(threadCount: model.options.threadCount)
  }

  /// Memory for values and scratch at the input shapes of the last run, in bytes.
  public var arenaByteCount: Int { plans.last?.byteCount ?? 0 }

  /// Ends the run in progress, if there is one, within a few milliseconds: it throws `cancelled` and
  /// returns no outputs. The next run is not affected. May be called from any thread.
  ///
  /// A run is ended between two steps, or between two parts of a step, which take at most a few
  /// milliseconds. Without vector instructions (`KernelSet.portable`) they take up to ten times as long,
  /// and the reference loops are not divided.
  public func cancel() { threads.runState.cancel() }

  /// Begins a run, so that ``cancel()`` ends it even before its first step.
  /// - Throws: `usage` if another run is in progress.
  func begin() throws(QMError) {
    guard threads.runState.begin() else {
      throw .usage("the session is in use; make a session for each task")
    }
  }

  /// Ends what ``begin()`` has begun.
  func end() { threads.runState.end() }

  /// Calls `body` as a run.
  func asRun<R>(_ body: () throws(QMError) -> R) throws(QMError) -> R {
    try begin()
    defer { end() }
    return try body()
  }

  /// Runs the model once.
  /// - Throws: as ``Model/run(_:)``; `cancelled` after ``cancel()``; `usage` if another run of the
  ///   session is in progress.
  public func run(_ inputs: [String: Tensor]) throws(QMError) -> [String: Tensor] {
    try asRun { () throws(QMError) in try outputs(for: inputs, .none) }
  }

  /// Runs the model once and calls `observer` with every value: first the inputs, then the outputs
  /// of each node as they are computed.
  /// - Throws: as ``Model/run(_:)``; the error of `observer`.
  public func run(
    _ inputs: [String: Tensor], observing observer: Observer
  ) throws(QMError) -> [String: Tensor] {
    try withoutActuallyEscaping(observer) { (observer) throws(QMError) in
      try asRun { () throws(QMError) in try outputs(for: inputs, .observer(observer)) }
    }
  }

  /// Runs the model once and rewrites some values.
  /// - Throws: as ``Model/run(_:)``; the error of the intercept.
  public func run(
    _ inputs: [String: Tensor], intercepting intercept: Intercept
  ) throws(QMError) -> [String: Tensor] {
    try asRun { () throws(QMError) in try outputs(for: inputs, .intercept(intercept)) }
  }

  /// Runs the model once and calls `timer` at the beginning of each step.
  /// - Throws: as ``Model/run(_:)``.
  public func run(
    _ inputs: [String: Tensor], timing timer: Timer
  ) throws(QMError) -> [String: Tensor] {
    try withoutActuallyEscaping(timer) { (timer) throws(QMError) in
      try asRun { () throws(QMError) in try outputs(for: inputs, .timer(timer)) }
    }
  }

  /// The outputs of a run that has begun.
  func outputs(
    for inputs: [String: Tensor], _ attendant: Attendant
  ) throws(QMError) -> [String: Tensor] {
    var tensors = try ordered(inputs)
    if case .intercept(let intercept) = attendant {
      for (position, value) in model.program.inputs.enumerated()
      where intercept.values.contains(value) {
        tensors[position] = try Tensor(
          tensors[position].elementType, tensors[position].shape,
          buffer: .copying(tensors[position].bytes))
      }
    }
    let plan = try plan(for: tensors, keepsAll: attendant.needsValues)
    let addresses = tensors.map { $0.buffer.base + $0.byteOffset }
    plan.bind(addresses)
    defer { plan.unbindOutputs() }
    let buffers = try plan.bindOutputs()
    defer { withExtendedLifetime((tensors, buffers)) {} }

    switch attendant {
    case .none: try execute(plan)
    case .timer(let timer): try execute(plan, timer: timer)
    case .observer(let observer):
      try execute(
        plan,
        visit: { (value) throws(QMError) in
          guard let view = plan.view(of: value, inputs: addresses) else { return }
          try observer(value, ValueView(view))
        })
    case .intercept(let intercept):
      try execute(
        plan,
        visit: { (value) throws(QMError) in
          guard intercept.values.contains(value), !plan.isConstant(value),
            let view = plan.view(of: value, inputs: addresses)
          else { return }
          try intercept.body(value, view)
        })
    }
    return try outputs(of: plan, in: buffers, inputs: addresses)
  }

  /// Runs the steps of a plan whose inputs are bound.
  /// - Parameters:
  ///   - timer: called at the beginning of each step.
  ///   - visit: called with each value once it is computed; first with those that are known before
  ///     the run.
  func execute(
    _ plan: ExecutionPlan, timer: Timer? = nil,
    visit: ((_ value: Int) throws(QMError) -> Void)? = nil
  ) throws(QMError) {
    try withStandardFloatEnvironment { () throws(QMError) in
      if let visit {
        for value in plan.givenValues { try visit(value) }
      }
      threads.beginRun()
      defer { threads.endRun() }
      for step in plan.steps {
        try requireNotCancelled()
        timer?((step.node, step.kernel.name))
        try run(step, of: plan)
        if let visit {
          for value in step.values { try visit(value) }
        }
      }
      try requireNotCancelled()
    }
    timer?(nil)
  }

  /// The outputs as tensors. Those that are inputs or constants are copied.
  /// - Parameter buffers: from ``ExecutionPlan/bindOutputs()``.
  private func outputs(
    of plan: ExecutionPlan, in buffers: [Buffer?], inputs addresses: [UnsafeMutableRawPointer]
  ) throws(QMError) -> [String: Tensor] {
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

  private func run(_ step: ExecutionPlan.Step, of plan: ExecutionPlan) throws(QMError) {
    do { try plan.run(step, threads: threads) } catch {
      // What the parts that were left out did not write may look wrong.
      try requireNotCancelled()
      let node = model.program.nodes[step.node]
      throw error.within(.node(name: node.name, operation: node.operation.name))
    }
  }

  private func requireNotCancelled() throws(QMError) {
    guard !threads.runState.isCancelled else { throw .cancelled() }
  }

  /// Checks that the bytes of a bool tensor are 0 or 1: another Swift Bool is undefined.
  /// - Throws: `invalidInput` otherwise.
  static func checkBools(_ tensor: Tensor) throws(QMError) {
    guard tensor.elementType != .bool || tensor.bytes.allSatisfy({ $0 <= 1 }) else {
      throw .invalidInput("a bool element is neither 0 nor 1")
    }
  }

  /// Checks the inputs and puts them into the program's order.
  /// - Throws: `invalidInput` if a tensor is missing or unknown, or does not fit.
  func ordered(_ inputs: [String: Tensor]) throws(QMError) -> [Tensor] {
    var tensors: [Tensor] = []
    /// The extent of each named dynamic axis, and the input that it comes from.
    var named: [String: (extent: Int, input: String)] = [:]
    for port in model.inputs {
      guard let tensor = inputs[port.name] else {
        throw QMError.invalidInput(
          "missing; found \(Session.list(inputs.keys.sorted()))"
        ).within(.value(port.name))
      }
      guard tensor.elementType == port.type.elementType else {
        throw QMError.invalidInput(
          "found \(tensor.elementType), expected \(port.type.elementType)"
        ).within(.value(port.name))
      }
      guard port.type.shape.admits(tensor.shape) else {
        throw QMError.invalidInput(
          "found shape \(tensor.shape), expected \(port.type.shape)"
        ).within(.value(port.name))
      }
      for case (.free(let name), let extent) in zip(port.type.shape.axes, tensor.shape)
      where !name.isEmpty {
        let known = named[name] ?? (extent, port.name)
        guard known.extent == extent else {
          throw QMError.invalidInput(
            "axis '\(Shape.Axis.free(name).description.abbreviated)' has extent \(extent) here and \(known.extent) in "
              + "'\(known.input.abbreviated)'"
          ).within(.value(port.name))
        }
        named[name] = known
      }
      try within(.value(port.name)) { () throws(QMError) in try Session.checkBools(tensor) }
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

  /// A plan for inputs in the program's order. Where a shape or a branch depends on the elements of
  /// values, these are computed first.
  func plan(for tensors: [Tensor], keepsAll: Bool = false) throws(QMError) -> ExecutionPlan {
    try plan(request(for: tensors, keepsAll: keepsAll), tensors)
  }

  func request(for tensors: [Tensor], keepsAll: Bool) -> ExecutionPlan.Request {
    ExecutionPlan.Request(
      shapes: tensors.map(\.shape),
      switches: model.switchInputs.flatMap { Array(tensors[$0].bytes) },
      targets: model.program.outputs.map(\.value), keepsAll: keepsAll)
  }

  func resolution(of request: ExecutionPlan.Request) throws(QMError) -> Resolution {
    try Resolution(
      model, shapes: request.shapes, switches: request.switches, known: request.known,
      targets: request.targets)
  }

  private func plan(
    _ request: ExecutionPlan.Request, _ tensors: [Tensor]
  ) throws(QMError) -> ExecutionPlan {
    var request = request
    while true {
      if let index = plans.firstIndex(where: { $0.request == request }) {
        if index != plans.count - 1 { plans.append(plans.remove(at: index)) }
        return plans[plans.count - 1]
      }
      let deciding: [Int]
      if let known = decidingValues.first(where: { $0.request == request })?.values {
        deciding = known
      } else {
        // Kernels compute tables when they are made.
        let planned = try withStandardFloatEnvironment {
          () throws(QMError) -> Result<ExecutionPlan, Deciding> in
          let resolution = try resolution(of: request)
          guard resolution.deciding.isEmpty, resolution.loop == nil else {
            return .failure(
              Deciding(request: request, values: resolution.deciding, loop: resolution.loop))
          }
          return .success(
            try ExecutionPlan(model, request, resolution, threadCount: threads.threadCount))
        }
        switch planned {
        case .success(let plan):
          if plans.count >= model.options.cachedPlanCount { plans.removeFirst() }
          plans.append(plan)
          return plan
        case .failure(let undecided) where undecided.loop != nil:
          try runLoop(of: undecided, into: &request)
          continue
        case .failure(let undecided):
          if decidingValues.count >= model.options.cachedPlanCount { decidingValues.removeFirst() }
          decidingValues.append(undecided)
          deciding = undecided.values
        }
      }
      var stage = request
      stage.targets = deciding
      stage.keepsAll = false
      for (value, tensor) in zip(deciding, try run(plan(stage, tensors), on: tensors)) {
        request.known[value] = tensor
      }
    }
  }

  /// Runs a loop whose results tell their shapes.
  private func runLoop(
    of undecided: Deciding, into request: inout ExecutionPlan.Request
  ) throws(QMError) {
    guard let (index, inputs) = undecided.loop,
      case .loop(let loop) = model.program.nodes[index].operation
    else { throw .internalFault("there is no loop to run") }
    let node = model.program.nodes[index]
    let results = try within(node.context) { () throws(QMError) in
      try loop.run(
        inputs, kernels: model.kernels, threads: threads, byteLimit: model.options.runByteLimit)
    }
    try requireNotCancelled()
    for (output, result) in zip(node.outputs, results) {
      try within(node.context) { () throws(QMError) in
        try model.program.values[output].type.shape.requireAdmitting(result.shape)
      }
      request.known[output] = result
    }
  }

  /// Whether the elements of values decided on the plan of an earlier run.
  var isDecidedByData: Bool { !decidingValues.isEmpty }

  /// Runs a plan for its targets alone.
  private func run(_ plan: ExecutionPlan, on tensors: [Tensor]) throws(QMError) -> [Tensor] {
    let addresses = tensors.map { $0.buffer.base + $0.byteOffset }
    plan.bind(addresses)
    try execute(plan)
    var results: [Tensor] = []
    for target in plan.request.targets {
      guard let view = plan.view(of: target, inputs: addresses) else {
        throw .internalFault("value \(target) was not computed")
      }
      results.append(
        try Tensor(
          view.elementType, view.shape,
          buffer: .copying(UnsafeRawBufferPointer(start: view.base, count: view.byteCount))))
    }
    withExtendedLifetime(tensors) {}
    return results
  }

  /// What must be computed before a request can be planned.
  struct Deciding: Error {
    let request: ExecutionPlan.Request
    let values: [Int]
    /// From ``Resolution/loop``.
    let loop: (node: Int, inputs: [Tensor?])?
  }
}

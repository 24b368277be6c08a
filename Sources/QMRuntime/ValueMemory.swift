import QMFormat
import QMOperations
import QMTensor

/// The memory of each value of a run. All values that steps compute share one arena.
struct ValueMemory {
  /// Where the bytes of a value come from.
  enum Source {
    case input(Int)
    case constant(Tensor)
    case step(Int)
    /// The bytes of another value.
    case alias(Int)
  }

  /// The source of each value; nil for values that no output needs.
  let sources: [Source?]
  /// For each value, the value whose bytes it has; the value itself unless it is an alias.
  let origins: [Int]
  /// The offset in the arena of each value that a step computes.
  private let offsets: [Int?]
  private let arena: Buffer
  /// Temporary memory of the kernels.
  let scratch: Buffer
  /// Addresses that replace those in the arena, by value.
  private var substitutes: [Int: UnsafeMutableRawPointer] = [:]

  /// Memory for values and scratch, in bytes.
  var byteCount: Int { arena.count + scratch.count }

  /// Plans and allocates the memory.
  /// - Throws: `outOfMemory`, also for more than the model's options allow.
  init(
    _ model: Model, _ resolution: Resolution, _ steps: [PlannedSteps.Step], threadCount: Int
  ) throws(QMError) {
    sources = ValueMemory.sources(resolution, steps)
    origins = ValueMemory.origins(sources)
    let requests = try ValueMemory.requests(
      sources, types: resolution.types,
      lastReaders: ValueMemory.lastReaders(
        model.program, steps, origins, targets: resolution.targets))
    let plan = try MemoryPlan(requests.map(\.request))
    var offsets = [Int?](repeating: nil, count: sources.count)
    for (request, offset) in zip(requests, plan.offsets) { offsets[request.value] = offset }
    self.offsets = offsets

    let scratchByteCount = steps.map { $0.kernel.scratchByteCount(threadCount) }.max() ?? 0
    let limit = model.options.runByteLimit
    guard plan.byteCount <= limit, scratchByteCount <= limit - plan.byteCount else {
      throw QMError(
        .outOfMemory,
        "a run on these inputs takes \(plan.byteCount) bytes for values and \(scratchByteCount) "
          + "bytes of scratch, the limit is \(limit)")
    }
    arena = try Buffer.pages(byteCount: plan.byteCount)
    scratch = try Buffer.pages(byteCount: scratchByteCount)
  }

  private static func sources(
    _ resolution: Resolution, _ steps: [PlannedSteps.Step]
  ) -> [Source?] {
    var stepNumbers: [Int: Int] = [:]
    for (number, step) in steps.enumerated() { stepNumbers[step.lastNode] = number }
    return resolution.sources.map { source in
      switch source {
      case .input(let position): .input(position)
      case .constant(let tensor): .constant(tensor)
      case .alias(let other): .alias(other)
      case .node(let node): stepNumbers[node].map { .step($0) }
      case nil: nil
      }
    }
  }

  private static func origins(_ sources: [Source?]) -> [Int] {
    var origins = Array(sources.indices)
    // An alias refers to a value with a smaller number.
    for (value, source) in sources.enumerated() {
      if case .alias(let other) = source { origins[value] = origins[other] }
    }
    return origins
  }

  /// For each value, the last step that reads it or an alias of it; the number of steps if it is an
  /// output, and −1 if nothing reads it.
  private static func lastReaders(
    _ program: Program, _ steps: [PlannedSteps.Step], _ origins: [Int], targets: [Int]
  ) -> [Int] {
    var lastReaders = [Int](repeating: -1, count: origins.count)
    for (number, step) in steps.enumerated() {
      for case let input? in program.nodes[step.node].inputs {
        lastReaders[origins[input]] = number
      }
    }
    for target in targets { lastReaders[origins[target]] = steps.count }
    return lastReaders
  }

  /// The memory request of each value that a step computes.
  private static func requests(
    _ sources: [Source?], types: [ValueType?], lastReaders: [Int]
  ) throws(QMError) -> [(value: Int, request: MemoryPlan.Request)] {
    var requests: [(value: Int, request: MemoryPlan.Request)] = []
    for (value, source) in sources.enumerated() {
      guard case .step(let step) = source, let type = types[value],
        let shape = type.shape.extents
      else { continue }
      let request = MemoryPlan.Request(
        firstStep: step, lastStep: max(step, lastReaders[value]),
        byteCount: try Tensor.byteCount(of: type.elementType, shape))
      requests.append((value, request))
    }
    return requests
  }

  /// Replaces the address of a value that a step computes, until ``returnToArena()``.
  mutating func substitute(_ address: UnsafeMutableRawPointer, for value: Int) {
    substitutes[value] = address
  }

  /// Undoes all calls of ``substitute(_:for:)``.
  mutating func returnToArena() { substitutes = [:] }

  /// The address of a value that is not an alias; nil for the program's inputs.
  func address(of value: Int) -> UnsafeMutableRawPointer? {
    switch sources[value] {
    case .constant(let tensor): tensor.buffer.base + tensor.byteOffset
    case .step: substitutes[value] ?? offsets[value].map { arena.base + $0 }
    case .input, .alias, nil: nil
    }
  }
}

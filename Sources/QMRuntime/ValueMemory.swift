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

  /// Where each value will be, before anything is allocated.
  struct Layout {
    /// The source of each value; nil for values that no output needs.
    let sources: [Source?]
    /// For each value, the value whose bytes it has; the value itself unless it is an alias.
    let origins: [Int]
    /// The offset in the arena of each value that a step computes.
    let offsets: [Int?]
    /// Size of the arena, in bytes.
    let arenaByteCount: Int
    /// Size of the kernels' temporary memory, in bytes.
    let scratchByteCount: Int
    /// Memory for values and scratch, in bytes.
    var byteCount: Int { arenaByteCount + scratchByteCount }
  }

  private let layout: Layout
  private let arena: Buffer
  /// Temporary memory of the kernels.
  let scratch: Buffer
  /// Addresses that replace those in the arena, by value.
  private var substitutes: [Int: UnsafeMutableRawPointer] = [:]

  /// Memory for values and scratch, in bytes.
  var byteCount: Int { layout.byteCount }
  /// The source of each value; nil for values that no output needs.
  var sources: [Source?] { layout.sources }
  /// For each value, the value whose bytes it has; the value itself unless it is an alias.
  var origins: [Int] { layout.origins }

  /// Allocates the memory.
  /// - Throws: `outOfMemory`.
  init(_ layout: Layout) throws(QMError) {
    self.layout = layout
    arena = try Buffer.pages(byteCount: layout.arenaByteCount)
    scratch = try Buffer.pages(byteCount: layout.scratchByteCount)
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
    case .step: substitutes[value] ?? layout.offsets[value].map { arena.base + $0 }
    case .input, .alias, nil: nil
    }
  }
}

extension ValueMemory.Layout {
  /// Plans the memory.
  /// - Throws: `outOfMemory` for more than the model's options allow.
  init(
    _ model: Model, _ resolution: Resolution, _ steps: [PlannedSteps.Step], threadCount: Int
  ) throws(QMError) {
    sources = Self.sources(resolution, steps)
    origins = Self.origins(sources)
    let requests = try Self.requests(
      sources, types: resolution.types,
      lastReaders: Self.lastReaders(
        model.program, steps, origins, targets: resolution.targets))
    let plan = try MemoryPlan(requests.map(\.request))
    var offsets = [Int?](repeating: nil, count: sources.count)
    for (request, offset) in zip(requests, plan.offsets) { offsets[request.value] = offset }
    self.offsets = offsets

    let scratchByteCount = steps.map { $0.kernel.scratchByteCount(threadCount) }.max() ?? 0
    let limit = model.options.runByteLimit
    guard plan.byteCount <= limit, scratchByteCount <= limit - plan.byteCount else {
      throw .overLimit(
        "a run on these inputs takes \(plan.byteCount) bytes for values and \(scratchByteCount) "
          + "bytes of scratch, the limit is \(limit)")
    }
    arenaByteCount = plan.byteCount
    self.scratchByteCount = scratchByteCount
  }

  private static func sources(
    _ resolution: Resolution, _ steps: [PlannedSteps.Step]
  ) -> [ValueMemory.Source?] {
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

  private static func origins(_ sources: [ValueMemory.Source?]) -> [Int] {
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
    _ sources: [ValueMemory.Source?], types: [ValueType?], lastReaders: [Int]
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
}

import QMFormat
import QMOperations
import QMTensor

/// What a model knows of its constants before any run.
struct LoadedWeights: Sendable {
  /// Elements of the values that are known before a run; zeros of those that are released.
  let constants: [Int: Tensor]
  /// Values whose elements are gone, since they are among ``packed``.
  let released: Set<Int>
  /// Rearranged constants, by node.
  let packed: [Int: PackedWeights]
  /// Nodes that pack their constants in each run, since they would take more memory packed.
  let packedInRuns: Set<Int>
  /// Nodes that each run computes from constants, which take less memory than their results.
  let recomputed: Set<Int>
  /// Memory for results of constants, in bytes; beyond it they are computed in each run. A file of
  /// few bytes may ask for results of any size.
  let evaluatedByteLimit: Int

  /// Memory that the weights take, packed or as given, in bytes.
  var byteCount: Int {
    var byteCounts: [ObjectIdentifier: Int] = [:]
    for buffer in constants.values.map(\.buffer) + packed.values.map(\.buffer) {
      byteCounts[ObjectIdentifier(buffer)] = buffer.ownedByteCount
    }
    return byteCounts.values.reduce(0, +)
  }
}

/// Makes the constants of a program ready for runs: nodes of constants are computed, weights are
/// packed for this machine.
///
/// Nodes are taken in their order and packed in batches, and what nobody reads any more is released
/// behind each: so at no time is there much more in memory than the weights themselves.
struct ModelLoader {
  private let nodes: [Program.Node]
  private let types: [ValueType]
  private let options: Model.Options
  private let isOnlyOwner: Bool
  private let threads: ThreadPool
  private let forms: WeightForms
  private let evaluatedByteLimit: Int
  private var folder: ConstantFolder
  private var constants: ConstantStore
  private var packed: [Int: PackedWeights] = [:]
  private var packedInRuns: Set<Int> = []
  /// What became of constants that several nodes read, by value.
  private var shared: [Int: [PackedWeights]] = [:]

  /// - Parameters:
  ///   - program: a valid one.
  ///   - isOnlyOwner: whether nobody else has the program's constants.
  init(_ program: Program, isOnlyOwner: Bool, options: Model.Options, threads: ThreadPool) {
    nodes = program.nodes
    types = program.values.map(\.type)
    self.options = options
    self.isOnlyOwner = isOnlyOwner
    self.threads = threads
    constants = ConstantStore(program)
    forms = WeightForms(
      program, constants.tensors, memory: options.memory, kernels: options.kernels)
    evaluatedByteLimit = ConstantFolder.byteLimit(
      besides: program.constants.reduce(0) { $0 + $1.tensor.byteCount })
    folder = ConstantFolder(for: .memory, byteLimit: evaluatedByteLimit)
  }

  /// - Throws: what the operations of constant nodes throw; `outOfMemory`.
  mutating func load() throws(QMError) -> LoadedWeights {
    let batchCount = threads.threadCount == 1 ? 1 : 4 * threads.threadCount
    var batch: [PackingTask] = []
    for index in nodes.indices {
      if let task = try foldOrDefer(index) { batch.append(task) }
      guard batch.count >= batchCount || index == nodes.count - 1 else { continue }
      for (task, weights) in zip(batch, try pack(batch)) {
        if let weights { try keep(weights, of: task) }
      }
      batch = []
    }
    return LoadedWeights(
      constants: constants.tensors, released: constants.released, packed: packed,
      packedInRuns: packedInRuns, recomputed: forms.recomputed,
      evaluatedByteLimit: evaluatedByteLimit)
  }

  /// Computes a node whose inputs are constants.
  /// - Returns: what is left to do for any other node.
  private mutating func foldOrDefer(_ index: Int) throws(QMError) -> PackingTask? {
    let node = nodes[index]
    return try within(node.context) { () throws(QMError) in
      let operands = operands(of: node)
      guard let results = try fold(index, operands) else { return packingTask(index, operands) }
      for (output, tensor) in zip(node.outputs, results) { constants.add(tensor, as: output) }
      for case let input? in node.inputs { try constants.release(input) }
      return nil
    }
  }

  private func operands(of node: Program.Node) -> [Operand?] {
    node.inputs.map { input in
      input.map { input in
        var type = types[input]
        let constant = constants.tensors[input]
        // Axes that are declared dynamic are known by now.
        if let constant { type.shape = Shape(constant.shape) }
        return Operand(type, constant: constant)
      }
    }
  }

  /// The results of a node; nil where a run computes them.
  private mutating func fold(
    _ index: Int, _ operands: [Operand?]
  ) throws(QMError) -> [Tensor]? {
    guard !forms.recomputed.contains(index),
      let results = try folder.results(
        of: nodes[index].operation, operands, kernels: options.kernels)
    else { return nil }
    for (output, tensor) in zip(nodes[index].outputs, results) {
      try types[output].shape.requireAdmitting(tensor.shape)
    }
    return results
  }

  /// How the constants of a node are to be packed.
  private func packingTask(_ index: Int, _ operands: [Operand?]) -> PackingTask {
    let node = nodes[index]
    var task = PackingTask(
      node: index, operands: operands,
      positions: node.operation.body.packedInputs(operands).filter { $0 < operands.count },
      packing: Packing(memory: options.memory, mayTransform: forms.transformed.contains(index)))
    if isOnlyOwner, !task.mayStayAsGiven {
      task.packing.consumed = Set(
        task.positions.filter { node.inputs[$0].map(constants.hasOneReader) ?? false })
    }
    return task
  }

  /// Packs the constants of several nodes at a time.
  /// - Returns: for each task what was packed; nil of nodes that read their constants as given.
  private func pack(_ tasks: [PackingTask]) throws(QMError) -> [PackedWeights?] {
    try threads.map(tasks.count) { [nodes, options] (number) throws(QMError) in
      let task = tasks[number]
      let node = nodes[task.node]
      return try within(node.context) { () throws(QMError) in
        try node.operation.body.pack(task.operands, for: options.kernels, task.packing)
      }
    }
  }

  /// Keeps what a node's constants were packed into, and releases these.
  private mutating func keep(
    _ weights: PackedWeights, of task: PackingTask
  ) throws(QMError) {
    guard !task.staysAsGiven(besides: weights.buffer) else {
      packedInRuns.insert(task.node)
      return
    }
    let inputs = task.positions.compactMap { nodes[task.node].inputs[$0] }
    packed[task.node] = inputs.first.map { unique(weights, of: $0) } ?? weights
    for input in inputs { try constants.release(input) }
  }

  /// `weights`, or others with the same bytes that the same value gave before.
  private mutating func unique(_ weights: PackedWeights, of value: Int) -> PackedWeights {
    guard !constants.hasOneReader(value) || shared[value] != nil else { return weights }
    if let same = shared[value]?.first(where: { $0.isIdentical(to: weights) }) { return same }
    shared[value, default: []].append(weights)
    return weights
  }
}

/// A node whose constants are to be packed.
private struct PackingTask: Sendable {
  let node: Int
  let operands: [Operand?]
  /// Positions of the operands that are packed.
  let positions: [Int]
  var packing: Packing

  /// Bytes of the constants.
  private var givenByteCount: Int {
    positions.reduce(0) { $0 + (operands[$1]?.constant?.byteCount ?? 0) }
  }

  /// Whether each run may pack the constants anew: they are few, and are packed soon.
  var mayStayAsGiven: Bool { packing.memory == .compact && givenByteCount < 1 << 16 }

  /// Whether much of what they are packed into would be padding.
  func staysAsGiven(besides packed: Buffer) -> Bool {
    mayStayAsGiven && 4 * packed.count > 5 * givenByteCount
  }
}

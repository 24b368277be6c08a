import QMFormat
import QMOperations
import QMTensor

/// The constants of a model, ready for runs.
struct LoadedWeights: Sendable {
  /// The tensor of each value that is known before a run; for released values, zeros.
  let constants: [Int: Tensor]
  /// Values whose elements are freed, because all nodes that read them have them in ``packed``.
  let released: Set<Int>
  /// The packed constants of each node.
  let packed: [Int: PackedWeights]
  /// Nodes that pack their constants in each run, because these would take more memory packed.
  let packedInRuns: Set<Int>
  /// Nodes of constants that are computed in each run, because the results take more memory than
  /// the constants.
  let recomputed: Set<Int>
  /// Maximum memory for results of nodes whose inputs are constants, in bytes; further such nodes
  /// are computed in each run. Without a limit, a small file could demand results of any size.
  let evaluatedByteLimit: Int

  /// Memory that the weights take, packed or not, in bytes.
  var byteCount: Int {
    var byteCounts: [ObjectIdentifier: Int] = [:]
    for buffer in constants.values.map(\.buffer) + packed.values.map(\.buffer) {
      byteCounts[ObjectIdentifier(buffer)] = buffer.ownedByteCount
    }
    return byteCounts.values.reduce(0, +)
  }
}

/// Prepares the constants of a program for runs: computes the nodes whose inputs are constants, and
/// packs weights for this machine.
///
/// The nodes are processed in order and packed in batches. After each batch, constants that no node
/// needs any more are freed, so that memory never holds much more than the weights themselves.
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
  /// For each constant that several nodes read, its different packed forms.
  private var shared: [Int: [PackedWeights]] = [:]

  /// - Parameters:
  ///   - program: a validated program.
  ///   - isOnlyOwner: whether nobody else has the program's constants, so that they may be freed.
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

  /// Prepares all constants.
  /// - Throws: the errors of nodes whose inputs are constants; `outOfMemory`.
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

  /// Computes the node if its inputs are constants.
  /// - Returns: otherwise, the task of packing its constants.
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
        // An axis may be declared dynamic although the constant is known by now.
        if let constant { type.shape = Shape(constant.shape) }
        return Operand(type, constant: constant)
      }
    }
  }

  /// The results of a node whose inputs are constants; nil if a run must compute it.
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

  /// Decides how the constants of a node are packed.
  private func packingTask(_ index: Int, _ operands: [Operand?]) -> PackingTask {
    let node = nodes[index]
    var task = PackingTask(node, at: index, operands, forms: forms, memory: options.memory)
    if isOnlyOwner, !task.mayStayAsGiven {
      task.packing.consumed = Set(
        task.positions.filter { node.inputs[$0].map(constants.hasOneReader) ?? false })
    }
    return task
  }

  /// Packs the constants of several nodes in parallel.
  /// - Returns: the packed weights of each task; nil for nodes that read their constants unpacked.
  private func pack(_ tasks: [PackingTask]) throws(QMError) -> [PackedWeights?] {
    try threads.map(tasks.count) { [nodes, options] (number) throws(QMError) in
      let task = tasks[number]
      let node = nodes[task.node]
      return try within(node.context) { () throws(QMError) in
        try node.operation.body.pack(task.operands, for: options.kernels, task.packing)
      }
    }
  }

  /// Keeps the packed weights of a node and releases the constants. Weights that would take too
  /// much memory are dropped, and packed in each run instead.
  private mutating func keep(
    _ weights: PackedWeights, of task: PackingTask
  ) throws(QMError) {
    guard !task.staysAsGiven(besidesPacked: weights.buffer.count) else {
      packedInRuns.insert(task.node)
      return
    }
    let inputs = task.positions.compactMap { nodes[task.node].inputs[$0] }
    packed[task.node] = inputs.first.map { unique(weights, of: $0) } ?? weights
    for input in inputs { try constants.release(input) }
  }

  /// `weights`, or identical weights that another node already packed from the same value.
  private mutating func unique(_ weights: PackedWeights, of value: Int) -> PackedWeights {
    guard !constants.hasOneReader(value) || shared[value] != nil else { return weights }
    if let same = shared[value]?.first(where: { $0.isIdentical(to: weights) }) { return same }
    shared[value, default: []].append(weights)
    return weights
  }
}

/// A node whose constants are to be packed.
struct PackingTask: Sendable {
  let node: Int
  let operands: [Operand?]
  /// Positions of the operands that are packed.
  let positions: [Int]
  var packing: Packing

  /// - Parameter index: the index of the node.
  init(
    _ node: Program.Node, at index: Int, _ operands: [Operand?], forms: WeightForms,
    memory: WeightMemory
  ) {
    self.node = index
    self.operands = operands
    positions = node.operation.body.packedInputs(operands).filter { $0 < operands.count }
    packing = Packing(memory: memory, mayTransform: forms.transformed.contains(index))
  }

  /// Size of the constants before packing, in bytes.
  private var givenByteCount: Int {
    positions.reduce(0) { $0 + (operands[$1]?.constant?.byteCount ?? 0) }
  }

  /// Whether the constants may be packed in each run: they are small enough to pack quickly.
  var mayStayAsGiven: Bool { packing.memory == .compact && givenByteCount < 1 << 16 }

  /// Whether to keep the constants unpacked, because the packed form would be mostly padding.
  func staysAsGiven(besidesPacked byteCount: Int) -> Bool {
    mayStayAsGiven && 4 * byteCount > 5 * givenByteCount
  }
}

import QMFormat
import QMOperations
import QMTensor

/// A network ready to run: a program, with its weights rearranged for this machine.
///
/// ```swift
/// let model = try Model(contentsOf: "out.qm")
/// for port in model.inputs { print(port.name, port.type) }  // x float32[n, 64]
/// let outputs = try model.run(["x": Tensor([1, 64], pixels)])
/// let scores = outputs["y"]!.elements(as: Float.self)
/// ```
///
/// A model is immutable and safe to share; several runs may go on at once. One model serves inputs
/// of all shapes that its types admit: memory is planned once for each. The results are the same
/// bits on every machine, with every number of threads.
///
/// Where a run must neither copy nor allocate, or is watched, use a ``Session``.
public final class Model: Sendable {
  /// A value that goes into a model or comes out of it.
  public struct Port: Sendable, Hashable {
    /// Its name in the network.
    public let name: String
    /// Element type and shape; an axis may be dynamic.
    public let type: ValueType
  }

  /// What a caller must know of a network to run it.
  public struct Signature: Sendable, Hashable {
    /// In the order of the network.
    public let inputs: [Port]
    /// In the order of the network.
    public let outputs: [Port]
    /// What the file says beside the network: who made it and how, what it measured, labels.
    public let metadata: Program.Metadata

    init(_ program: Program) {
      inputs = program.inputs.map {
        Port(name: program.values[$0].name, type: program.values[$0].type)
      }
      outputs = program.outputs.map { Port(name: $0.name, type: program.values[$0.value].type) }
      metadata = program.metadata
    }
  }

  /// How a model runs. No choice changes a bit of the results.
  public struct Options: Sendable {
    /// Threads of one run. With 1 a run stays on the thread that calls it.
    public var threadCount: Int
    /// The kernels; every choice gives the same bits.
    public var kernels: KernelSet
    /// How many sets of input extents keep their memory plan.
    public var cachedPlanCount: Int
    /// Memory that the values of one run may take together, in bytes; a run on inputs that need
    /// more throws `outOfMemory` before it allocates.
    public var runByteLimit: Int
    /// What weights may take while the model is open.
    public var memory: Memory

    /// Options that fit an app: one thread, the fastest kernels.
    public init(
      threadCount: Int = 1, kernels: KernelSet = .best, cachedPlanCount: Int = 4,
      runByteLimit: Int = .max, memory: Memory = .standard
    ) {
      self.threadCount = max(1, threadCount)
      self.kernels = kernels
      self.cachedPlanCount = max(1, cachedPlanCount)
      self.runByteLimit = runByteLimit
      self.memory = memory
    }
  }

  /// What weights may take while a model is open; the results are the same.
  public typealias Memory = WeightMemory

  /// Inputs, outputs, and what the file says beside them.
  public let signature: Signature
  /// How the model runs.
  public let options: Options

  /// In the order of the network.
  public var inputs: [Port] { signature.inputs }
  /// In the order of the network.
  public var outputs: [Port] { signature.outputs }

  /// The network. Of weights that kernels have rearranged, the elements here are 0.
  let program: Program

  var kernels: KernelSet { options.kernels }
  /// Elements of the values that are known before a run.
  let constants: [Int: Tensor]
  /// Rearranged constants, by node.
  let packed: [Int: PackedWeights]
  /// Values whose elements are gone, since they are among ``packed``.
  let released: Set<Int>
  /// Nodes that pack their constants in each run, since they would take more memory packed.
  let packedInRuns: Set<Int>
  /// Nodes that each run computes from constants, which take less memory than their results.
  let recomputed: Set<Int>
  /// Memory for results of constants, in bytes; beyond it they are computed in each run. A file of
  /// few bytes may ask for any extents.
  let evaluatedByteLimit: Int
  /// Positions of the inputs that choose branches: what they hold is known before a run is planned.
  let switchInputs: [Int]
  private let idleSessions = Locked<[Session]>([])

  /// Reads and prepares a `.qm` file.
  /// - Throws: `cannotOpen`; `malformed` or `unsupported` with the path as context; `outOfMemory`.
  public convenience init(contentsOf path: String, options: Options = Options()) throws(QMError) {
    let threads = ThreadPool(threadCount: max(1, options.threadCount))
    threads.beginRun()
    defer { threads.endRun() }
    try self.init(
      validated: Program(contentsOf: path, threads: threads), isOnlyOwner: true, options: options,
      threads: threads)
  }

  /// Prepares a program.
  /// - Throws: `malformed` if the program contradicts itself; `outOfMemory`.
  public convenience init(_ program: Program, options: Options = Options()) throws(QMError) {
    try program.validate()
    try self.init(
      validated: program, isOnlyOwner: false, options: options,
      threads: ThreadPool(threadCount: max(1, options.threadCount)))
  }

  /// - Parameter isOnlyOwner: whether nobody else has the program's constants.
  private init(
    validated program: consuming Program, isOnlyOwner: Bool, options: Options, threads: ThreadPool
  ) throws(QMError) {
    var program = program
    // A caller may have set what the initializer does not allow.
    self.options = Options(
      threadCount: options.threadCount, kernels: options.kernels,
      cachedPlanCount: options.cachedPlanCount, runByteLimit: options.runByteLimit,
      memory: options.memory)
    signature = Signature(program)

    var constants: [Int: Tensor] = [:]
    for (index, value) in program.values.enumerated() {
      if let constant = value.constant { constants[index] = program.constants[constant].tensor }
    }
    let transformed =
      options.memory == .standard
      ? WeightForms.transformed(program, constants, kernels: options.kernels) : []
    let recomputed = options.memory == .compact ? WeightForms.recomputed(program) : []
    self.recomputed = recomputed
    var weights = GivenWeights(program)
    evaluatedByteLimit = ConstantFolder.byteLimit(
      besides: program.constants.reduce(0) { $0 + $1.tensor.byteCount })
    var folder = ConstantFolder(for: .memory, byteLimit: evaluatedByteLimit)
    var packed: [Int: PackedWeights] = [:]
    var packedInRuns: Set<Int> = []
    var pending: [PendingNode] = []
    let mostPending = threads.threadCount == 1 ? 1 : 4 * threads.threadCount
    for (index, node) in program.nodes.enumerated() {
      try within(.node(name: node.name, operation: node.operation.name)) { () throws(QMError) in
        let known = node.inputs.map { $0.flatMap { constants[$0] } }
        let operands = zip(node.inputs, known).map { input, constant in
          input.map { input in
            // Extents that are declared free are known by now.
            var type = program.values[input].type
            if let constant { type.shape = Shape(constant.shape) }
            return Operand(type, constant: constant)
          }
        }
        if !recomputed.contains(index),
          let results = try folder.results(
            of: node.operation, operands, kernels: options.kernels)
        {
          for (output, tensor) in zip(node.outputs, results) {
            try program.values[output].type.shape.requireAdmitting(tensor.shape)
            constants[output] = tensor
          }
          for case let input? in node.inputs {
            try weights.release(input, in: &program, &constants)
          }
          return
        }
        var packing = PendingNode(
          node: index, operands: operands,
          packing: Packing(memory: options.memory, mayTransform: transformed.contains(index)))
        let positions = node.operation.body.packedInputs(operands).filter { $0 < operands.count }
        for position in positions {
          packing.givenByteCount += operands[position]?.constant?.byteCount ?? 0
        }
        if isOnlyOwner, !packing.mayStayAsGiven {
          packing.packing.consumed = Set(
            positions.filter { node.inputs[$0].map(weights.hasOneReader) ?? false })
        }
        pending.append(packing)
      }
      // Nodes are packed together, as many as keep the threads busy; then the given codes go.
      guard pending.count >= mostPending || index == program.nodes.count - 1 else { continue }
      let nodes = program.nodes
      let made = try threads.map(pending.count) { [pending] (number) throws(QMError) in
        let packing = pending[number]
        return try within(nodes[packing.node].context) { () throws(QMError) in
          try nodes[packing.node].operation.body.pack(
            packing.operands, for: options.kernels, packing.packing)
        }
      }
      for (packing, made) in zip(pending, made) {
        guard let made else { continue }
        if packing.staysAsGiven(besides: made.buffer) {
          packedInRuns.insert(packing.node)
          continue
        }
        let node = nodes[packing.node]
        let inputs = node.operation.body.packedInputs(packing.operands).compactMap {
          $0 < node.inputs.count ? node.inputs[$0] : nil
        }
        packed[packing.node] = inputs.first.map { weights.shared(made, of: $0) } ?? made
        for input in inputs { try weights.release(input, in: &program, &constants) }
      }
      pending = []
    }
    self.program = program
    switchInputs = program.switchInputs
    self.constants = constants
    self.packed = packed
    self.packedInRuns = packedInRuns
    released = weights.released
  }

  /// Which of the given constants a run may still read.
  private struct GivenWeights {
    /// Of each value.
    private var readerCounts: [Int]
    /// Those that nobody reads any more; their elements are gone.
    private(set) var released: Set<Int> = []
    /// What became of those that several nodes read.
    private var rearranged: [Int: [PackedWeights]] = [:]
    private var zeros: Buffer?

    init(_ program: Program) {
      readerCounts = [Int](repeating: 0, count: program.values.count)
      for node in program.nodes {
        for case let input? in node.inputs { readerCounts[input] += 1 }
      }
      for output in program.outputs { readerCounts[output.value] += 1 }
    }

    func hasOneReader(_ value: Int) -> Bool { readerCounts[value] == 1 }

    /// `weights`, or others with the same bytes that the same value gave before.
    mutating func shared(_ weights: PackedWeights, of value: Int) -> PackedWeights {
      guard readerCounts[value] > 1 || rearranged[value] != nil else { return weights }
      if let same = rearranged[value]?.first(where: { $0.isIdentical(to: weights) }) {
        return same
      }
      rearranged[value, default: []].append(weights)
      return weights
    }

    /// Takes note that one of a value's readers needs it no more, and gives up its elements with
    /// the last.
    mutating func release(
      _ value: Int, in program: inout Program, _ constants: inout [Int: Tensor]
    ) throws(QMError) {
      readerCounts[value] -= 1
      guard readerCounts[value] == 0, let tensor = constants[value] else { return }
      let zeros =
        if let known = self.zeros, known.count >= tensor.byteCount { known } else {
          try Buffer.zeros(byteCount: tensor.byteCount)
        }
      self.zeros = zeros
      let empty = try Tensor(tensor.elementType, tensor.shape, buffer: zeros)
      constants[value] = empty
      if let constant = program.values[value].constant {
        program.constants[constant].tensor = empty
      }
      released.insert(value)
    }
  }

  /// A node whose constants are to be packed.
  private struct PendingNode: Sendable {
    let node: Int
    var operands: [Operand?]
    var packing: Packing
    /// Bytes of the constants.
    var givenByteCount = 0

    init(node: Int, operands: [Operand?], packing: Packing) {
      self.node = node
      self.operands = operands
      self.packing = packing
    }

    /// Whether each run may pack the constants anew: they are few, and are packed soon.
    var mayStayAsGiven: Bool { packing.memory == .compact && givenByteCount < 1 << 16 }

    /// Whether much of what they are packed into would be padding.
    func staysAsGiven(besides packed: Buffer) -> Bool {
      mayStayAsGiven && 4 * packed.count > 5 * givenByteCount
    }
  }

  /// Memory that the model takes for weights, rearranged or as given, in bytes.
  public var weightByteCount: Int {
    var byteCounts: [ObjectIdentifier: Int] = [:]
    for buffer in constants.values.map(\.buffer) + program.constants.map(\.tensor.buffer)
      + packed.values.map(\.buffer)
    {
      byteCounts[ObjectIdentifier(buffer)] = buffer.ownedByteCount
    }
    return byteCounts.values.reduce(0, +)
  }

  /// Outputs that depend on no input, by name. For a file of weights without a network: all its
  /// arrays, dequantized to float32.
  public var weights: [String: Tensor] {
    var weights: [String: Tensor] = [:]
    for output in program.outputs {
      if let tensor = constants[output.value] { weights[output.name] = tensor }
    }
    return weights
  }

  /// Runs the model.
  /// - Parameter inputs: one tensor per input name, of the input's element type, with extents that
  ///   its type admits.
  /// - Returns: one tensor per output name.
  /// - Throws: `invalidInput` if a tensor is missing, unknown or does not fit; `outOfMemory`.
  public func run(_ inputs: [String: Tensor]) throws(QMError) -> [String: Tensor] {
    let session = idleSessions.withLock { $0.popLast() } ?? Session(self)
    defer { idleSessions.withLock { $0.append(session) } }
    return try session.run(inputs)
  }
}

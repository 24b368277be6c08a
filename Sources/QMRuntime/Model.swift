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

  /// The network without its constants, which are in ``loaded``.
  let program: Program
  /// The constants, rearranged for this machine.
  let loaded: LoadedWeights
  /// Positions of the inputs that choose branches: what they hold is known before a run is planned.
  let switchInputs: [Int]
  private let idleSessions = Locked<[Session]>([])

  var kernels: KernelSet { options.kernels }

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
    switchInputs = program.switchInputs
    var loader = ModelLoader(
      program, isOnlyOwner: isOnlyOwner, options: self.options, threads: threads)
    // From here on the loader alone has the constants, and frees each as soon as it is packed.
    program.constants = []
    self.program = program
    loaded = try loader.load()
  }

  /// Memory that the model takes for weights, rearranged or as given, in bytes.
  public var weightByteCount: Int { loaded.byteCount }

  /// Outputs that depend on no input, by name. For a file of weights without a network: all its
  /// arrays, dequantized to float32.
  public var weights: [String: Tensor] {
    var weights: [String: Tensor] = [:]
    for output in program.outputs {
      if let tensor = loaded.constants[output.value] { weights[output.name] = tensor }
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

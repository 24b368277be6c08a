import QMFormat
import QMOperations
import QMTensor

/// A network that is ready to run: a program whose weights are packed for this machine.
///
/// ```swift
/// let model = try Model(contentsOf: "out.qm")
/// for port in model.inputs { print(port.name, port.type) }  // x float32[n, 64]
/// let outputs = try model.run(["x": Tensor([1, 64], pixels)])
/// let scores = outputs["y"]!.elements(as: Float.self)
/// ```
///
/// A model is immutable and safe to share between threads, which may run it at the same time. It
/// accepts inputs of every shape that its types admit, and plans memory once per shape. The results
/// are the same bits on every machine and with any number of threads.
///
/// To run without copies and allocations, or to observe a run, use a ``Session``.
public final class Model: Sendable {
  /// An input or output of a model.
  public struct Port: Sendable, Hashable {
    /// Its name in the network.
    public let name: String
    /// Element type, shape and quantization; axes may be dynamic.
    public let type: ValueType
  }

  /// What a caller must know about a network to run it.
  public struct Signature: Sendable, Hashable {
    /// The inputs, in the order of the network.
    public let inputs: [Port]
    /// The outputs, in the order of the network.
    public let outputs: [Port]
    /// Other information in the file, such as its producer, recipe, measurements and labels.
    public let metadata: Program.Metadata

    init(_ program: Program) {
      inputs = program.inputs.map {
        Port(name: program.values[$0].name, type: program.values[$0].type)
      }
      outputs = program.outputs.map { Port(name: $0.name, type: program.values[$0.value].type) }
      metadata = program.metadata
    }
  }

  /// How a model runs. No option changes the results.
  public struct Options: Sendable {
    /// Number of threads per run. With 1, a run stays on the calling thread.
    public var threadCount: Int
    /// The set of kernels to run on; every set gives the same bits.
    public var kernels: KernelSet
    /// Number of plans that a session keeps, one per set of input shapes.
    public var cachedPlanCount: Int
    /// Maximum memory for values and scratch of one run, in bytes. A run that needs more throws
    /// `outOfMemory` before it allocates.
    public var runByteLimit: Int
    /// How much memory weights may take while the model is open.
    public var memory: Memory

    /// Options that suit an app by default: one thread, the fastest kernels.
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

  /// How much memory weights may take while a model is open; it does not affect the results.
  public typealias Memory = WeightMemory

  /// Inputs, outputs and metadata.
  public let signature: Signature
  /// How the model runs.
  public let options: Options

  /// The inputs, in the order of the network.
  public var inputs: [Port] { signature.inputs }
  /// The outputs, in the order of the network.
  public var outputs: [Port] { signature.outputs }

  /// The network without its constants, which are in ``loaded``.
  package let program: Program
  /// The constants, packed for this machine.
  let loaded: LoadedWeights
  /// Positions of the switch inputs: those that determine which branch of an If runs. A plan is
  /// made for their content.
  let switchInputs: [Int]
  /// The file that the model was opened from; nil if it was in memory.
  let path: String?
  /// The content digest in the header of that file; nil for a program that was in no file.
  let contentDigest: [UInt8]?
  private let idleSessions = Locked<[Session]>([])

  var kernels: KernelSet { options.kernels }

  /// Reads and prepares a `.qm` file.
  /// - Throws: `cannotOpen`; `malformed` or `unsupported` with the path as context; `outOfMemory`.
  public convenience init(contentsOf path: String, options: Options = Options()) throws(QMError) {
    let threads = ThreadPool(threadCount: max(1, options.threadCount))
    threads.beginRun()
    defer { threads.endRun() }
    var digest: [UInt8] = []
    // No variable holds the program: only the loader must have the constants.
    try self.init(
      validated: within(.file(path)) { () throws(QMError) in
        try Model.program(QMFile(reading: path), threads, digest: &digest)
      }, isOnlyOwner: true, options: options, threads: threads, path: path, contentDigest: digest)
  }

  /// Prepares a `.qm` file that is in memory, such as a download: `[UInt8]`, `Data`,
  /// `UnsafeRawBufferPointer`. While the model is made, it holds a copy of the bytes.
  /// - Throws: `malformed` or `unsupported` as for a file; `outOfMemory`.
  public convenience init(
    bytes: some Collection<UInt8>, options: Options = Options()
  ) throws(QMError) {
    let threads = ThreadPool(threadCount: max(1, options.threadCount))
    threads.beginRun()
    defer { threads.endRun() }
    var digest: [UInt8] = []
    try self.init(
      validated: Model.program(QMFile(Buffer.copying(bytes)), threads, digest: &digest),
      isOnlyOwner: true, options: options, threads: threads, contentDigest: digest)
  }

  private static func program(
    _ file: QMFile, _ threads: ThreadPool, digest: inout [UInt8]
  ) throws(QMError) -> Program {
    digest = file.container.digest
    return try Program(file, threads: threads)
  }

  /// Validates and prepares a program.
  /// - Throws: `malformed` or `unsupported` as `Program.validate(limits:)`; `outOfMemory`.
  public convenience init(_ program: Program, options: Options = Options()) throws(QMError) {
    try program.validate()
    try self.init(
      validated: program, isOnlyOwner: false, options: options,
      threads: ThreadPool(threadCount: max(1, options.threadCount)))
  }

  /// - Parameter isOnlyOwner: whether nobody else has the program's constants, so that they may be
  ///   freed.
  private init(
    validated program: consuming Program, isOnlyOwner: Bool, options: Options, threads: ThreadPool,
    path: String? = nil, contentDigest: [UInt8]? = nil
  ) throws(QMError) {
    var program = program
    // Repeats the checks of the initializer: a caller may have set the properties afterwards.
    self.options = Options(
      threadCount: options.threadCount, kernels: options.kernels,
      cachedPlanCount: options.cachedPlanCount, runByteLimit: options.runByteLimit,
      memory: options.memory)
    self.path = path
    self.contentDigest = contentDigest
    signature = Signature(program)
    switchInputs = program.switchInputs
    var loader = ModelLoader(
      program, isOnlyOwner: isOnlyOwner, options: self.options, threads: threads)
    // Now only the loader has the constants, and frees each as soon as it is packed.
    program.constants = []
    self.program = program
    loaded = try loader.load()
  }

  /// Memory that the weights take, packed or not, in bytes.
  public var weightByteCount: Int { loaded.byteCount }

  /// Outputs that depend on no input, by name. For a checkpoint, which holds weights without a
  /// network: all its arrays, dequantized to float32.
  public var weights: [String: Tensor] {
    var weights: [String: Tensor] = [:]
    for output in program.outputs {
      if let tensor = loaded.constants[output.value] { weights[output.name] = tensor }
    }
    return weights
  }

  /// A constant of the network as it was read; nil for other values, and for constants that are
  /// packed.
  package func constant(_ value: Int) -> Tensor? { loaded.constants[value] }

  /// Runs the model.
  /// - Parameter inputs: one tensor per input name, with the input's element type and a shape that
  ///   its type admits.
  /// - Returns: one tensor per output name.
  /// - Throws: `invalidInput` if a tensor is missing or unknown, or does not fit;
  ///   `outOfMemory`.
  public func run(_ inputs: [String: Tensor]) throws(QMError) -> [String: Tensor] {
    let session = idleSessions.withLock { $0.popLast() } ?? Session(self)
    defer { idleSessions.withLock { $0.append(session) } }
    return try session.run(inputs)
  }
}

import QMFormat
import QMOperations
import QMTensor

extension Model {
  /// A bound on ``weightByteCount`` of the file's model, in bytes, that is known before the model is
  /// opened: only the listing of the file is read, not its weights. It is seldom more than a few
  /// percent above. Constants that are computed when the file is opened are counted as far as the file
  /// states their shapes, as every file of the converter does.
  /// - Throws: as ``init(contentsOf:options:)``, except for errors in the weights.
  public static func memoryNeeded(
    contentsOf path: String, options: Options = Options()
  ) throws(QMError) -> Int {
    try within(.file(path)) { () throws(QMError) in
      try WeightSizes(QMFile(reading: path).listing, options).byteCount
    }
  }

  /// The same for a file that is in memory.
  /// - Throws: as ``init(bytes:options:)``, except for errors in the weights.
  public static func memoryNeeded(
    bytes: some Collection<UInt8>, options: Options = Options()
  ) throws(QMError) -> Int {
    try WeightSizes(QMFile(Buffer.copying(bytes)).listing, options).byteCount
  }
}

/// The memory of the constants of a model, packed or not, computed as ``ModelLoader`` packs them but
/// without their elements.
struct WeightSizes {
  /// Memory that the weights take at most once the model is open, in bytes.
  let byteCount: Int

  /// - Throws: `malformed` as the type rules of the operations.
  init(_ listing: ProgramListing, _ options: Model.Options) throws(QMError) {
    var sizes = try Sizes(listing, options)
    for index in sizes.program.nodes.indices { try sizes.add(index) }
    // The constants of a section share a buffer, which stays while one of them does.
    let first = listing.inputs.count
    let sections = listing.dataSections.map { section in
      let isKept = section.constants.contains { sizes.isKept(first + $0) }
      return isKept ? section.constants.reduce(0) { $0 + sizes.byteCount(first + $1) } : 0
    }
    byteCount = sizes.packed + sizes.results + sections.reduce(0, +)
  }

  private struct Sizes {
    let program: Program
    private let options: Model.Options
    private let forms: WeightForms
    private var constants: ConstantStore
    private var computed: [Int] = []
    /// By the first constant that is packed.
    private var packedForms: [Int: Set<PackedForm>] = [:]
    private var evaluatedBytesLeft: Int
    /// Memory of packed constants, in bytes.
    private(set) var packed = 0

    private var zeros = SharedZeros()

    init(_ listing: ProgramListing, _ options: Model.Options) throws(QMError) {
      var unread: [Program.Constant] = []
      for type in listing.constants {
        let tensor = try zeros.tensor(type.elementType, type.shape.extents ?? [])
        unread.append(Program.Constant(tensor, type.quantization))
      }
      program = Program(
        values: listing.values, constants: unread, nodes: listing.nodes, inputs: listing.inputs,
        outputs: listing.outputs, metadata: listing.metadata)
      try program.validateWithoutElements()
      self.options = options
      constants = ConstantStore(program)
      forms = WeightForms(
        program, constants.tensors, memory: options.memory, kernels: options.kernels)
      evaluatedBytesLeft = ConstantFolder.byteLimit(
        besides: program.constants.reduce(0) { $0 + $1.tensor.byteCount })
    }

    func isKept(_ value: Int) -> Bool { !constants.released.contains(value) }
    func byteCount(_ value: Int) -> Int { constants.tensors[value]?.byteCount ?? 0 }
    /// Memory of the results of nodes whose inputs are constants, in bytes.
    var results: Int { computed.filter(isKept).reduce(0) { $0 + byteCount($1) } }

    mutating func add(_ index: Int) throws(QMError) {
      let node = program.nodes[index]
      try within(node.context) { () throws(QMError) in
        if try isComputed(index) {
          for case let input? in node.inputs { try constants.release(input) }
          return
        }
        let operands = node.inputs.map { input in
          input.map { Operand(program.values[$0].type, constant: constants.tensors[$0]) }
        }
        let task = PackingTask(node, at: index, operands, forms: forms, memory: options.memory)
        guard
          let form = try node.operation.body.packedForm(
            operands, for: options.kernels, task.packing),
          !task.staysAsGiven(besidesPacked: form.byteCount)
        else { return }
        let inputs = task.positions.compactMap { node.inputs[$0] }
        // Nodes that pack the same constant in the same form share it.
        let isNew = inputs.first.map { packedForms[$0, default: []].insert(form).inserted } ?? true
        if isNew { packed += form.byteCount }
        for input in inputs { try constants.release(input) }
      }
    }

    /// Whether the node is computed when the model is opened; then its outputs are constants.
    private mutating func isComputed(_ index: Int) throws(QMError) -> Bool {
      let node = program.nodes[index]
      guard !forms.recomputed.contains(index), try isKnown(node) else { return false }
      let types = node.outputs.map { program.values[$0].type }
      var total = 0
      for type in types {
        guard let shape = type.shape.extents else { return false }
        let byteCount = try Tensor.byteCount(of: type.elementType, shape)
        guard byteCount <= evaluatedBytesLeft - total else { return false }
        total += byteCount
      }
      evaluatedBytesLeft -= total
      for (output, type) in zip(node.outputs, types) {
        constants.add(try zeros.tensor(type.elementType, type.shape.extents ?? []), as: output)
        computed.append(output)
      }
      return true
    }

    /// Whether the outputs of a node follow from constants, or from a shape that is not dynamic.
    private func isKnown(_ node: Program.Node) throws(QMError) -> Bool {
      if case .shape(let operation) = node.operation, case let input?? = node.inputs.first {
        return try operation.value(for: program.values[input].type.shape) != nil
      }
      return node.inputs.allSatisfy { $0.map { constants.tensors[$0] != nil } ?? true }
    }
  }
}

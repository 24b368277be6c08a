import QMFormat
import QMTensor

/// The constants of a program while it is loaded, with the number of nodes that still need each.
struct ConstantStore {
  /// The tensor of each value; for released values, zeros.
  private(set) var tensors: [Int: Tensor] = [:]
  /// Values that no node needs any more; their memory is freed.
  private(set) var released: Set<Int> = []
  /// For each value, the number of nodes and outputs that still need it.
  private var readerCounts: [Int]
  private var zeros = SharedZeros()

  init(_ program: Program) {
    readerCounts = [Int](repeating: 0, count: program.values.count)
    for node in program.nodes {
      for case let input? in node.inputs { readerCounts[input] += 1 }
    }
    for output in program.outputs { readerCounts[output.value] += 1 }
    for (index, value) in program.values.enumerated() {
      if let constant = value.constant { tensors[index] = program.constants[constant].tensor }
    }
  }

  /// Whether only one node or output still needs the value.
  func hasOneReader(_ value: Int) -> Bool { readerCounts[value] == 1 }

  /// Adds a value that has been computed from constants.
  mutating func add(_ tensor: Tensor, as value: Int) { tensors[value] = tensor }

  /// Records that one reader of a value no longer needs it. After the last reader, the elements are
  /// freed.
  /// - Throws: `outOfMemory`.
  mutating func release(_ value: Int) throws(QMError) {
    readerCounts[value] -= 1
    guard readerCounts[value] == 0, let tensor = tensors[value] else { return }
    tensors[value] = try zeros.tensor(tensor.elementType, tensor.shape)
    released.insert(value)
  }
}

/// Tensors of zeros that take no memory: they stand for elements that nobody reads.
struct SharedZeros {
  private var buffer: Buffer?

  /// - Throws: `malformed` as `Tensor.byteCount(of:_:)`; `outOfMemory`.
  mutating func tensor(_ elementType: ElementType, _ shape: [Int]) throws(QMError) -> Tensor {
    let byteCount = try Tensor.byteCount(of: elementType, shape)
    let buffer =
      if let known = buffer, known.count >= byteCount { known } else {
        try Buffer.zeros(byteCount: byteCount)
      }
    self.buffer = buffer
    return try Tensor(elementType, shape, buffer: buffer)
  }
}

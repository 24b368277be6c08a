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
  /// The zeros that all released values share.
  private var zeros: Buffer?

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
    let zeros =
      if let known = self.zeros, known.count >= tensor.byteCount { known } else {
        try Buffer.zeros(byteCount: tensor.byteCount)
      }
    self.zeros = zeros
    tensors[value] = try Tensor(tensor.elementType, tensor.shape, buffer: zeros)
    released.insert(value)
  }
}

import QMFormat
import QMTensor

/// The constants of a program while it is loaded, and who still reads them.
struct ConstantStore {
  /// Elements by value; zeros of those that are released.
  private(set) var tensors: [Int: Tensor] = [:]
  /// Values that nobody reads any more.
  private(set) var released: Set<Int> = []
  /// Of each value.
  private var readerCounts: [Int]
  /// The elements of all released values.
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

  /// Whether all but one of those that read a value need it no more.
  func hasOneReader(_ value: Int) -> Bool { readerCounts[value] == 1 }

  /// Adds a value that has been computed from constants.
  mutating func add(_ tensor: Tensor, as value: Int) { tensors[value] = tensor }

  /// Takes note that one of a value's readers needs it no more, and gives up its elements with the
  /// last.
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

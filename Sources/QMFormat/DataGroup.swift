import QMOperations
import QMTensor

/// Constants that share a data section, and the section.
struct DataGroup: Sendable {
  /// Indices of the constants, ascending.
  let constants: [Int]
  let encoded: DataLayout.Encoded
  let elementCount: Int

  /// Constants of at most this many elements share sections: a table row and a Huffman code for
  /// each would cost more than they save.
  private static let smallElementCount = 1024
  /// Maximum number of elements of a shared section, so that a reader of one small constant need
  /// not inflate many others.
  private static let sharedElementCount = 1 << 16
  /// What a section takes besides its content, in bits: a row of the table, its layout, its constants.
  private static let bitCountOfSection = 8 * 14

  /// The data sections of a program, in the order of their first constants.
  ///
  /// Small constants of one element type and width share a section, and weights whose codes have almost
  /// the same distribution, where that makes the file smaller.
  /// - Throws: `outOfMemory`.
  static func all(
    _ constants: [Program.Constant], threads: ThreadPool
  ) throws(QMError) -> [DataGroup] {
    let small = smallTogether(constants)
    let groups = try threads.map(small.count) { (index) throws(QMError) in
      DataGroup(small[index], constants)
    }
    func isOfWeights(_ group: DataGroup) -> Bool {
      constants[group.constants[0]].quantization.width != nil
        && group.elementCount <= sharedElementCount && group.elementCount > 0
    }
    var joined: [DataGroup] = []
    // The bits of a code tell distributions of rounded weights apart.
    for group in groups.filter(isOfWeights).sorted(by: { $0.order < $1.order }) {
      if let last = joined.last, last.elementCount + group.elementCount <= sharedElementCount {
        let both = DataGroup((last.constants + group.constants).sorted(), constants)
        if both.encoded.bitCount
          < last.encoded.bitCount + group.encoded.bitCount + bitCountOfSection
        {
          joined[joined.count - 1] = both
          continue
        }
      }
      joined.append(group)
    }
    return (groups.filter { !isOfWeights($0) } + joined)
      .sorted { $0.constants[0] < $1.constants[0] }
  }

  private init(_ indices: [Int], _ constants: [Program.Constant]) {
    self.constants = indices
    var elements: [UInt8] = []
    for index in indices { elements.append(contentsOf: constants[index].tensor.bytes) }
    let elementType = constants[indices[0]].tensor.elementType
    encoded = DataLayout.best(
      for: elements, elementType,
      width: indices.compactMap { constants[$0].quantization.width }.max())
    elementCount = elements.count / elementType.byteCount
  }

  private var order: (bits: Double, first: Int) {
    (Double(encoded.bitCount) / Double(max(elementCount, 1)), constants[0])
  }

  private static func smallTogether(_ constants: [Program.Constant]) -> [[Int]] {
    /// Small constants share a section if these are equal.
    struct SharingKey: Hashable {
      let elementType: ElementType
      let width: BitWidth?
    }
    var groups: [[Int]] = []
    var shared: [SharingKey: (group: Int, elementCount: Int)] = [:]
    for (index, constant) in constants.enumerated() {
      let key = SharingKey(
        elementType: constant.tensor.elementType, width: constant.quantization.width)
      let count = constant.tensor.elementCount
      guard count <= smallElementCount else {
        groups.append([index])
        continue
      }
      if let open = shared[key], open.elementCount + count <= sharedElementCount {
        groups[open.group].append(index)
        shared[key]?.elementCount += count
      } else {
        shared[key] = (groups.count, count)
        groups.append([index])
      }
    }
    return groups
  }
}

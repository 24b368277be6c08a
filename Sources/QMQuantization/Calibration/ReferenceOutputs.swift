import QMTensor

/// What the float network gives for samples, of as many as fit in little memory.
struct ReferenceOutputs {
  /// Memory of all outputs together, in bytes.
  private static let byteLimit = 20 << 20

  private let wanted: Set<Int>
  private var outputs: [Int: [String: Tensor]] = [:]
  private var byteCount = 0

  /// - Parameter indices: of the samples that are worth keeping.
  init(of indices: [Int]) { wanted = Set(indices) }

  /// The outputs of a sample, if they were kept.
  subscript(index: Int) -> [String: Tensor]? { outputs[index] }

  mutating func keep(_ new: [String: Tensor], of index: Int) {
    guard wanted.contains(index), outputs[index] == nil else { return }
    let total = new.values.reduce(byteCount) { $0 + $1.byteCount }
    guard total <= ReferenceOutputs.byteLimit else { return }
    outputs[index] = new
    byteCount = total
  }
}

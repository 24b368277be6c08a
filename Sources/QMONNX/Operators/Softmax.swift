import QMOperations
import QMTensor

extension NodeReader {
  /// Softmax and LogSoftmax. Before opset 13, `axis` and all later axes are normalized together.
  func softmax(_ kind: Softmax.Kind) throws(QMError) {
    let input = try float(0)
    let rank = shape(input).rank
    if opset >= 13 {
      let axis = try axis(integer("axis") ?? -1, rank: rank)
      return try finish(.softmax(Softmax(kind, axis: axis)), [input], as: input.type)
    }
    let given = try integer("axis") ?? 1
    // Negative axes are allowed since opset 11. axis = rank is allowed too; each element is then a
    // row of its own.
    let axis = given == rank ? rank : try self.axis(given, rank: rank)
    let joined = shape(input).axes.indices.filter { $0 >= axis && shape(input)[$0] != 1 }
    if joined.count <= 1, axis < rank {
      return try finish(
        .softmax(Softmax(kind, axis: joined.first ?? axis)), [input], as: input.type)
    }
    // Nothing to normalize, and a 0 in the shape below would copy an axis of `flat`.
    guard !shape(input).axes.contains(0) else { return try finish([input]) }
    let original = try shapeValue(of: input, "extents")
    let flat = try append(.flatten(Flatten(axis: axis)), [input], as: input.type, "flat")
    let result = try append(.softmax(Softmax(kind, axis: 1)), [flat], as: input.type, "softmax")
    try finish(.reshape(Reshape()), [result, original], as: input.type)
  }
}

import QMOperations
import QMTensor

extension NodeReader {
  /// If: the branch that a constant condition chooses takes the node's place. Where the condition
  /// is computed both branches run, and each output is chosen, if both give the same extents.
  func condition() throws(QMError) {
    let condition = try raw(0)
    guard condition.type == .bool else { throw .malformed("a condition of type \(condition.type)") }
    if let tensor = constant(condition) {
      guard tensor.elementCount == 1 else {
        throw .malformed("a condition of extents \(tensor.shape); expected one element")
      }
      let isTrue = tensor.elements(as: Bool.self)[0]
      return try finish(builder.inline(graph(isTrue ? "then_branch" : "else_branch")))
    }
    let whenTrue = try builder.inline(graph("then_branch"))
    let whenFalse = try builder.inline(graph("else_branch"))
    guard whenTrue.count == whenFalse.count else {
      throw .malformed("branches of \(whenTrue.count) and \(whenFalse.count) outputs")
    }
    var scalar = condition
    if shape(condition).rank > 0 {
      scalar = try append(
        .reshape(Reshape()), [condition, addConstant([], "extents")], as: .bool, "scalar")
    }
    var results: [Value] = []
    for (index, (left, right)) in zip(whenTrue, whenFalse).enumerated() {
      try requireSameType(left, right)
      guard shape(left).isCertainlyEqual(to: shape(right)) else {
        throw .unsupported(
          "the condition is computed, and the branches give \(shape(left)) and \(shape(right)); give the condition's inputs a value with --set"
        )
      }
      results.append(
        try append(
          .select(Select()), [scalar, inFloat32(left), inFloat32(right)], as: left.type,
          "chosen\(index)"))
    }
    try finish(results)
  }
}

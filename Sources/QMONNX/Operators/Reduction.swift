import QMOperations
import QMTensor

extension NodeReader {
  /// ReduceMean, ReduceSum, …. Without axes, all axes are reduced, unless `noop_with_empty_axes`.
  func reduction(_ kind: Reduction.Kind, axesAreInputSince first: Int) throws(QMError) {
    let input = try input(0)
    if kind != .maximum, kind != .minimum { try refuseShortIntegers(input) }
    let rank = shape(input).rank
    let given: [Int]?
    if opset >= first {
      given = try constantIntegers(1, "axes")
    } else {
      guard node.inputs.count == 1 else {
        throw .malformed("the axes are an input; before opset \(first) an attribute is expected")
      }
      given = try integers("axes")
    }
    var axes = try axes(given ?? [], rank: rank)
    if axes.isEmpty, try !flag("noop_with_empty_axes", default: false) { axes = Array(0..<rank) }
    let operation = Operation.reduction(
      Reduction(kind, axes: axes, keepsAxes: try flag("keepdims", default: true)))
    guard let wide = input.type == .bool ? .int32 : widerType(of: input.type) else {
      return try finish(operation, [input], as: input.type)
    }
    let widened = try append(.cast(Cast(to: wide)), [input], as: wide, "\(wide)")
    var result = try append(operation, [widened], as: wide, "reduced")
    if input.type == .bool, kind == .maximum || kind == .minimum {
      // Without elements the result is the least or the largest bool, not the least or largest
      // int32.
      let bound = try addConstant(Tensor([], [Int32(kind == .maximum ? 0 : 1)]), "bound")
      result = try append(
        .binary(Binary(kind == .maximum ? .maximum : .minimum)), [result, bound], as: wide,
        "bounded")
    }
    try finish(.cast(Cast(to: input.type)), [result], as: input.type)
  }
}

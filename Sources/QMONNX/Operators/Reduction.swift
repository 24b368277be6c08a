import QMOperations
import QMTensor

extension NodeReader {
  /// ReduceMean, ReduceSum, …. Without axes all are reduced, unless `noop_with_empty_axes`.
  func reduction(_ kind: Reduction.Kind, axesAreInputSince first: Int) throws(QMError) {
    let input = try input(0)
    let rank = shape(input).rank
    let given: [Int]?
    if opset >= first {
      given = try constantIntegers(1, "axes")
    } else {
      guard node.inputs.count == 1 else {
        throw .malformed("axes are an input; before opset \(first) they are an attribute")
      }
      given = try integers("axes")
    }
    var axes = try axes(given ?? [], rank: rank)
    if axes.isEmpty, try !flag("noop_with_empty_axes", default: false) { axes = Array(0..<rank) }
    try finish(
      .reduction(Reduction(kind, axes: axes, keepsAxes: flag("keepdims", default: true))),
      [input], as: input.type)
  }
}

import QMOperations
import QMTensor

extension NodeReader {
  func gatherElements() throws(QMError) {
    let input = try input(0)
    let axis = try axis(integer("axis") ?? 0, rank: shape(input).rank)
    try finish(.gatherElements(GatherElements(axis: axis)), [input, raw(1)], as: input.type)
  }

  func gatherND() throws(QMError) {
    let input = try input(0)
    try finish(
      .gatherND(GatherND(batchAxes: integer("batch_dims") ?? 0)), [input, raw(1)], as: input.type)
  }

  private func scatterReduction() throws(QMError) -> ScatterReduction {
    switch try text("reduction", default: "none") {
    case "none": return .replace
    case "add": return .add
    case "mul": return .multiply
    case "min": return .minimum
    case "max": return .maximum
    case let name:
      throw .malformed(
        "reduction '\(name.abbreviated)'; ONNX defines none, add, mul, min and max")
    }
  }

  /// ScatterElements, which was named Scatter before opset 11.
  func scatterElements() throws(QMError) {
    let (input, updates) = (try input(0), try input(2))
    try requireSameType(input, updates)
    let axis = try axis(integer("axis") ?? 0, rank: shape(input).rank)
    try finish(
      .scatterElements(ScatterElements(axis: axis, scatterReduction())), [input, raw(1), updates],
      as: input.type)
  }

  func scatterND() throws(QMError) {
    let (input, updates) = (try input(0), try input(2))
    try requireSameType(input, updates)
    try finish(.scatterND(ScatterND(scatterReduction())), [input, raw(1), updates], as: input.type)
  }

  func nonZero() throws(QMError) {
    try finish(.nonZero(NonZero()), [input(0)], as: .int64)
  }
}

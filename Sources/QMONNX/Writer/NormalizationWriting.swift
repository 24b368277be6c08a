import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ normalization: BatchNormalization, _ node: Graph.Node) throws(QMError) {
    guard normalization.order == .channelsFirst else { throw Self.channelsLast }
    try emit(
      "BatchNormalization", inputs(node), node, [("epsilon", .float(normalization.epsilon))])
  }

  mutating func write(_ normalization: LayerNormalization, _ node: Graph.Node) throws(QMError) {
    guard let x = node.input(0) else { throw .malformed("input 0 is missing") }
    var operands = try inputs(node)
    if node.input(1) == nil {
      // ONNX's scale is required.
      guard let extents = Shape(Array(shape(x).axes[normalization.axis...])).extents else {
        throw .unsupported("a normalization over dynamic axes without a scale")
      }
      let ones = [Float](repeating: 1, count: extents.reduce(1, *))
      let scale = try constant(Tensor(extents, ones), stepName(node, "scale"))
      operands = [operands[0], scale] + operands.dropFirst(2)
    }
    try emit(
      "LayerNormalization", operands, node,
      [("axis", .integer(normalization.axis)), ("epsilon", .float(normalization.epsilon))])
  }

  mutating func write(_ normalization: GroupNormalization, _ node: Graph.Node) throws(QMError) {
    guard normalization.order == .channelsFirst else { throw Self.channelsLast }
    let epsilon: Attributes = [("epsilon", .float(normalization.epsilon))]
    if normalization.groups == 0 {
      return try emit("InstanceNormalization", inputs(node), node, epsilon)
    }
    try emit(
      "GroupNormalization", inputs(node), node,
      epsilon + [("num_groups", .integer(normalization.groups))])
  }
}

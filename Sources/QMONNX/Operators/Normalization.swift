import QMOperations
import QMTensor

extension NodeReader {
  /// BatchNormalization with the statistics of training.
  func batchNormalization() throws(QMError) {
    guard try !flag("training_mode", default: false) else {
      throw .unsupported("training_mode = 1; export the model for inference")
    }
    guard try flag("spatial", default: true) else {
      throw .unsupported("spatial = 0; only statistics per channel are read")
    }
    let input = try float(0)
    var operands = [input]
    for index in 1...4 {
      let operand = try float(index)
      try requireFinite(operand, "statistics")
      operands.append(operand)
    }
    try finish(
      .batchNormalization(
        BatchNormalization(order: .channelsFirst, epsilon: number("epsilon", default: 1e-5))),
      operands, as: input.type)
  }

  func layerNormalization() throws(QMError) {
    let input = try float(0)
    let scale = try float(1)
    let bias = try optionalFloat(2)
    try requireSameType(input, scale, bias)
    let axis = try axis(integer("axis") ?? -1, rank: shape(input).rank)
    try finish(
      .layerNormalization(
        LayerNormalization(axis: axis, epsilon: number("epsilon", default: 1e-5))),
      [input, scale, bias], as: input.type)
  }
}

import QMOperations
import QMTensor

extension NodeReader {
  /// BatchNormalization with stored statistics.
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

  /// LayerNormalization. Scale and bias may be of any shape that broadcasts to the input. The outputs
  /// mean and inverse standard deviation are computed separately, if they are used.
  func layerNormalization() throws(QMError) {
    let input = try float(0)
    let (givenScale, givenBias) = (try float(1), try optionalFloat(2))
    try requireSameType(input, givenScale, givenBias)
    let rank = shape(input).rank
    let axis = try axis(integer("axis") ?? -1, rank: rank)
    let epsilon = try number("epsilon", default: 1e-5)
    let type = input.type
    let scale = try overNormalized(givenScale, input, axis)
    let bias = try givenBias.map { (value) throws(QMError) in
      try overNormalized(value, input, axis)
    }
    guard let scale, bias != .some(nil) else {
      let extents = try call("Shape", input, with: ["start": .integer(Int64(axis))])
      let ones = try call("Expand", number(1, like: input), extents)
      let normal = try append(
        .layerNormalization(LayerNormalization(axis: axis, epsilon: epsilon)),
        [input, ones, nil], as: type, "normalized")
      var result = try call("Mul", normal, givenScale)
      if let givenBias { result = try call("Add", result, givenBias) }
      guard shape(result).rank == rank else {
        throw .malformed("scale \(shape(givenScale)) does not broadcast to \(shape(input))")
      }
      return try finish([result])
    }
    try finishLayerNormalization([input, scale, bias ?? nil], axis: axis, epsilon: epsilon)
  }

  /// A scale or bias with the extents of the axes that are normalized; nil if it varies along others.
  private func overNormalized(
    _ value: Value, _ input: Value, _ axis: Int
  ) throws(QMError) -> Value? {
    let (own, axes) = (shape(value).axes, Array(shape(input).axes[axis...]))
    if own.count == axes.count, own.contains(1) == false || own == axes { return value }
    let leading = own.dropLast(axes.count)
    guard leading.allSatisfy({ $0 == 1 }) else { return nil }
    var narrow = value
    if !leading.isEmpty { narrow = try call("Squeeze", value, integers(Array(leading.indices))) }
    if Array(own.suffix(axes.count)) == axes { return narrow }
    let target = try call("Shape", input, with: ["start": .integer(Int64(axis))])
    return try call("Expand", narrow, target)
  }

  private func finishLayerNormalization(
    _ operands: [Value?], axis: Int, epsilon: Float
  ) throws(QMError) {
    guard let input = operands[0] else { throw .malformed("input 0 is missing") }
    let (rank, type) = (shape(input).rank, input.type)
    let places = try builder.construction.append(
      .layerNormalization(LayerNormalization(axis: axis, epsilon: epsilon)), name: node.label,
      operands, outputNames: Array(node.outputs.prefix(1)))
    var results = [Value(place: places[0], type: type)]
    if node.outputs.dropFirst().contains(where: builder.isUsed) {
      let average = Operation.reduction(
        Reduction(.mean, axes: Array(axis..<rank), keepsAxes: true))
      let mean = try append(average, [input], as: .float32, "mean")
      let centred = try append(
        .binary(Binary(.subtract)), [input, mean], as: .float32, "centred")
      let square = try append(.unary(Unary(.square)), [centred], as: .float32, "square")
      let variance = try append(average, [square], as: .float32, "variance")
      let shifted = try append(
        .unary(Unary(.affine(scale: 1, offset: epsilon))), [variance], as: .float32, "shifted")
      let deviation = try append(.unary(Unary(.squareRoot)), [shifted], as: .float32, "deviation")
      results += [
        mean, try append(.unary(Unary(.reciprocal)), [deviation], as: .float32, "inverse"),
      ]
    }
    try finish(results)
  }

  func instanceNormalization() throws(QMError) {
    let input = try float(0)
    let (scale, bias) = (try float(1), try float(2))
    try requireSameType(input, scale, bias)
    try finish(
      .groupNormalization(
        GroupNormalization(
          groups: 0, order: .channelsFirst, epsilon: number("epsilon", default: 1e-5))),
      [input, scale, bias], as: input.type)
  }

  /// GroupNormalization: scale and bias are per group before opset 21, per channel since.
  func groupNormalization() throws(QMError) {
    let given = try float(0)
    let hasPositions = shape(given).rank != 2
    let input =
      try hasPositions
      ? given : append(.unsqueeze(Unsqueeze(axes: [2])), [given], as: given.type, "positions")
    guard let groups = try integer("num_groups"), groups >= 1 else {
      throw .malformed("attribute 'num_groups' is missing or less than 1")
    }
    func parameter(_ index: Int, _ name: String) throws(QMError) -> Value {
      let value = try float(index)
      guard opset < 21, shape(value).extents == [groups] else { return value }
      guard shape(input).rank >= 2, let channels = shape(input)[1].extent, channels % groups == 0
      else {
        throw .unsupported(
          "\(name) per group for input \(shape(input)); expected a fixed multiple of \(groups) channels"
        )
      }
      let column = try append(
        .unsqueeze(Unsqueeze(axes: [1])), [value], as: value.type, name + "Column")
      let target = try addConstant([groups, channels / groups], name + "Extents")
      let wide = try append(.expand(Expand()), [column, target], as: value.type, name + "Wide")
      return try append(
        .reshape(Reshape()), [wide, addConstant([channels], name + "Channels")], as: value.type,
        name)
    }
    let operation = Operation.groupNormalization(
      try GroupNormalization(
        groups: groups, order: .channelsFirst, epsilon: number("epsilon", default: 1e-5)))
    let operands = try [input, parameter(1, "scale"), parameter(2, "bias")]
    guard !hasPositions else { return try finish(operation, operands, as: input.type) }
    let result = try append(operation, operands, as: input.type, "normalized")
    try finish(.squeeze(Squeeze(axes: [2])), [result], as: input.type)
  }

  /// LpNormalization: x divided by its sum of magnitudes or its norm along an axis; 0 if that is 0.
  func lpNormalization() throws(QMError) {
    let input = try float(0)
    let axis = try axis(integer("axis") ?? -1, rank: shape(input).rank)
    let kind: Reduction.Kind
    switch try integer("p") ?? 2 {
    case 1: kind = .sumOfMagnitudes
    case 2: kind = .norm
    case let p: throw .malformed("p = \(p); ONNX defines 1 and 2")
    }
    let norm = try append(
      .reduction(Reduction(kind, axes: [axis], keepsAxes: true)), [input], as: input.type, "norm")
    let least = try addScalar(.leastNormalMagnitude, "least")
    let divisor = try append(.binary(Binary(.maximum)), [norm, least], as: input.type, "divisor")
    try finish(.binary(Binary(.divide)), [input, divisor], as: input.type)
  }
}

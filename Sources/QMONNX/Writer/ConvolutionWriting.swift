import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ convolution: Convolution, _ node: Graph.Node) throws(QMError) {
    guard convolution.order == .channelsFirst else { throw Self.channelsLast }
    try requirePlain(convolution.epilogue, node)
    guard let weights = node.input(ProductOperand.weights), let extents = shape(weights).extents
    else { throw .unsupported("weights without a known shape") }
    if convolution.isTransposed { return try writeTransposed(convolution, node, weights, extents) }
    var attributes: Attributes = [
      ("kernel_shape", .integers(Array(extents[2...]))),
      ("strides", .integers(convolution.strides)),
      ("dilations", .integers(convolution.dilations)), ("group", .integer(convolution.groups)),
    ]
    attributes += Self.padding(convolution.padding)
    try emit("Conv", inputs(node), node, attributes)
  }

  static var channelsLast: QMError {
    .unsupported("channels last; ONNX's operators take them first")
  }

  static func padding(_ padding: Padding) -> Attributes {
    switch padding {
    case .explicit(let before, let after): [("pads", .integers(before + after))]
    case .sameUpper: [("auto_pad", .text("SAME_UPPER"))]
    case .sameLower: [("auto_pad", .text("SAME_LOWER"))]
    }
  }

  /// - Throws: `unsupported` for a product that does more than add a bias: raising makes nodes of
  ///   the rest.
  func requirePlain(_ epilogue: Epilogue, _ node: Graph.Node) throws(QMError) {
    guard epilogue == Epilogue(), node.input(ProductOperand.residual) == nil,
      node.input(ProductOperand.weightScales) == nil
    else { throw .unsupported("a product with an epilogue; raise the program first") }
  }

  /// ConvTranspose: its weights have the input channels first, and the taps in reverse.
  private mutating func writeTransposed(
    _ convolution: Convolution, _ node: Graph.Node, _ weights: Graph.ValueID, _ extents: [Int]
  ) throws(QMError) {
    guard case .explicit(let before, let after) = convolution.padding else {
      throw .unsupported("a transposed convolution needs explicit padding")
    }
    var pads = [Int](repeating: 0, count: 2 * before.count)
    var added = [Int](repeating: 0, count: before.count)
    for axis in before.indices {
      let reach = (extents[axis + 2] - 1) * convolution.dilations[axis]
      pads[axis] = reach - before[axis]
      pads[axis + before.count] = max(reach - after[axis], 0)
      added[axis] = max(after[axis] - reach, 0)
    }
    guard pads.allSatisfy({ $0 >= 0 }) else {
      throw .unsupported("padding beyond the window, which ConvTranspose does not have")
    }
    let name = try reversed(weights, groups: convolution.groups, node)
    var operands = [try input(node, 0), name]
    if node.input(ProductOperand.bias) != nil {
      operands.append(try input(node, ProductOperand.bias))
    }
    try emit(
      "ConvTranspose", operands, node,
      [
        ("kernel_shape", .integers(Array(extents[2...]))),
        ("strides", .integers(convolution.spacing)),
        ("dilations", .integers(convolution.dilations)), ("group", .integer(convolution.groups)),
        ("pads", .integers(pads)), ("output_padding", .integers(added)),
      ])
  }

  /// Constant weights `[O, C/groups, …]` as `[C, O/groups, …]`, reversed along each spatial axis.
  private mutating func reversed(
    _ weights: Graph.ValueID, groups: Int, _ node: Graph.Node
  ) throws(QMError) -> String {
    let proposal = graph[weights].name
    if let tensor = graph[weights].constant {
      return try constant(Self.reversed(tensor, groups: groups), proposal)
    }
    guard let source = producer(of: weights), let stored = source.input(0),
      let tensor = graph[stored].constant
    else { throw .unsupported("computed weights of a transposed convolution") }
    let moved = try Self.reversed(tensor, groups: groups)
    switch source.operation {
    case .cast(let cast):
      return add(
        "Cast", [try constant(moved, proposal + ".stored")], as: unique(proposal),
        [("to", .integer(Int(cast.elementType.onnxType)))])
    case .dequantize:
      guard case .weights(let bits, var granularity) = graph[stored].type.quantization,
        let scales = source.input(1).flatMap({ graph[$0].constant })
      else { break }
      if case .perChannel(axis: 0) = granularity {
        // The channels of several groups share an index.
        guard groups == 1 else {
          let numbers = try source.operation.evaluate(
            [tensor, scales], quantizations: [graph[stored].type.quantization])[0]
          floatNodes.append(
            RaisedProgram.FloatNode(
              name: node.name, operation: node.operation.name,
              reason: "its groups have scales of their own for channels that share an index"))
          return try constant(Self.reversed(numbers, groups: groups), proposal)
        }
        granularity = .perChannel(axis: 1)
      }
      let codes = try constant(moved, proposal + ".codes", bits: bits.bits)
      let output = unique(proposal)
      try addDequantize(codes, bits, scales, granularity, as: output)
      return output
    default: break
    }
    throw .unsupported("computed weights of a transposed convolution")
  }

  private static func reversed(_ weights: Tensor, groups: Int) throws(QMError) -> Tensor {
    let extents = weights.shape
    let places = Array(2..<extents.count)
    func integers(_ numbers: [Int]) throws(QMError) -> Tensor {
      try Tensor([numbers.count], numbers.map(Int64.init))
    }
    let grouped = try weights.reshaped([groups, extents[0] / groups, extents[1]] + extents[2...])
    let moved = try Operation.transpose(
      Transpose(permutation: [0, 2, 1] + places.map { $0 + 1 })
    ).evaluate([grouped])[0]
    let joined = try moved.reshaped([groups * extents[1], extents[0] / groups] + extents[2...])
    return try Operation.slice(Slice()).evaluate([
      joined, integers(places.map { extents[$0] - 1 }),
      integers(places.map { _ in Int(Int32.min) }),
      integers(places), integers(places.map { _ in -1 }),
    ])[0]
  }
}

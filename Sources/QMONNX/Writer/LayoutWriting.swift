import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ reshape: Reshape, _ node: Graph.Node) throws(QMError) {
    try emit(
      "Reshape", [input(node, 0), wideInput(node, 1)], node,
      reshape.zeroIsZero ? [("allowzero", .flag(true))] : [])
  }

  mutating func write(_ squeeze: Squeeze, _ node: Graph.Node) throws(QMError) {
    var operands = [try input(node, 0)]
    if let axes = squeeze.axes { operands.append(try constant(axes, stepName(node, "axes"))) }
    // ONNX Runtime takes an empty list of axes for none.
    try emit(
      squeeze.axes == [] ? "Identity" : "Squeeze", squeeze.axes == [] ? [operands[0]] : operands,
      node)
  }

  mutating func write(_ unsqueeze: Unsqueeze, _ node: Graph.Node) throws(QMError) {
    let axes = try constant(unsqueeze.axes, stepName(node, "axes"))
    try emit("Unsqueeze", [input(node, 0), axes], node)
  }

  mutating func write(_ split: Split, _ node: Graph.Node) throws(QMError) {
    let axis: Attributes = [("axis", .integer(split.axis))]
    switch split.sizes {
    case .explicit(let sizes):
      try emit("Split", [input(node, 0), constant(sizes, stepName(node, "sizes"))], node, axis)
    case .equal(let parts):
      try emit("Split", [input(node, 0)], node, axis + [("num_outputs", .integer(parts))])
    }
  }

  mutating func write(_ pad: Pad, _ node: Graph.Node) throws(QMError) {
    let mode =
      switch pad.mode {
      case .constant: "constant"
      case .reflect: "reflect"
      case .edge: "edge"
      case .wrap: "wrap"
      }
    try emit(
      "Pad", [input(node, 0), wideInput(node, 1), input(node, 2), input(node, 3)], node,
      [("mode", .text(mode))])
  }

  mutating func write(_ operation: ShapeOperation, _ node: Graph.Node) throws(QMError) {
    var attributes: Attributes = [("start", .integer(operation.start))]
    if let end = operation.end { attributes.append(("end", .integer(end))) }
    try emit("Shape", inputs(node), node, attributes)
  }

  mutating func writeFill(_ node: Graph.Node) throws(QMError) {
    guard let value = node.input(1) else { throw .malformed("input 1 is missing") }
    if let tensor = graph[value].constant {
      let element = ONNXTensor(
        name: "value", dataType: tensor.elementType.onnxType, shape: [1], pieces: [],
        external: nil, elements: tensor)
      return try emit("ConstantOfShape", [wideInput(node, 0)], node, [("value", .tensor(element))])
    }
    try emit("Expand", [input(node, 1), wideInput(node, 0)], node)
  }

  mutating func write(_ scatter: ScatterElements, _ node: Graph.Node) throws(QMError) {
    try emit(
      "ScatterElements", inputs(node), node,
      [("axis", .integer(scatter.axis)), ("reduction", .text(scatter.reduction.onnxName))])
  }

  mutating func write(_ scatter: ScatterND, _ node: Graph.Node) throws(QMError) {
    try emit(
      "ScatterND", [input(node, 0), wideInput(node, 1), input(node, 2)], node,
      [("reduction", .text(scatter.reduction.onnxName))])
  }

  mutating func write(_ move: DepthToSpace, _ node: Graph.Node) throws(QMError) {
    guard move.order == .channelsFirst else { throw Self.channelsLast }
    try emit(
      "DepthToSpace", inputs(node), node,
      [
        ("blocksize", .integer(move.block)),
        ("mode", .text(move.channelsComeFirst ? "CRD" : "DCR")),
      ])
  }

  mutating func write(_ move: SpaceToDepth, _ node: Graph.Node) throws(QMError) {
    guard move.order == .channelsFirst else { throw Self.channelsLast }
    let block: Attributes = [("blocksize", .integer(move.block))]
    guard move.channelsComeFirst else { return try emit("SpaceToDepth", inputs(node), node, block) }
    // Operator set 21 has the channels last in the depth only: they are put in order behind it.
    guard let x = node.input(0), let channels = shape(x)[1].extent else {
      throw .unsupported("an unknown number of channels that come first in the depth")
    }
    let depth = add("SpaceToDepth", try inputs(node), as: try stepName(node, "depth"), block)
    let positions = move.block * move.block
    let order = (0..<channels * positions).map { $0 % positions * channels + $0 / positions }
    try emit(
      "Gather", [depth, constant(order, stepName(node, "order"))], node, [("axis", .integer(1))])
  }

  /// If with two branches that return values of the surrounding graph.
  mutating func writeIf(_ node: Graph.Node) throws(QMError) {
    let operands = try inputs(node)
    let type = graph[node.outputs[0]].type
    var attributes: Attributes = []
    for (index, name) in ["then_branch", "else_branch"].enumerated() {
      let result = unique("\(operands[index + 1]).chosen")
      let move = ONNXNode(
        name: result, operation: "Identity", domain: "", inputs: [operands[index + 1]],
        outputs: [result], attributes: [], position: 0)
      let output = ONNXValueInfo(
        name: result,
        type: ONNXValueInfo.TensorType(
          dataType: type.elementType.onnxType,
          axes: node.input(index + 1).map { shape($0).axes }))
      attributes.append(
        (
          name,
          .graph(
            ONNXGraph(
              name: name, nodes: [move], initializers: [], inputs: [], outputs: [output],
              sparseInitializerCount: 0))
        ))
    }
    try emit("If", [operands[0]], node, attributes)
  }
}

extension ScatterReduction {
  fileprivate var onnxName: String {
    switch self {
    case .replace: "none"
    case .add: "add"
    case .multiply: "mul"
    case .minimum: "min"
    case .maximum: "max"
    }
  }
}

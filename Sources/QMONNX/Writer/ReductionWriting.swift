import QMGraph
import QMOperations
import QMTensor

// Operations over windows and axes.

extension GraphWriter {
  mutating func write(_ pooling: Pooling, _ node: Graph.Node) throws(QMError) {
    guard pooling.order == .channelsFirst else { throw Self.channelsLast }
    var attributes: Attributes = [
      ("kernel_shape", .integers(pooling.window)), ("strides", .integers(pooling.strides)),
      ("dilations", .integers(pooling.dilations)), ("ceil_mode", .flag(pooling.roundsUp)),
    ]
    attributes += Self.padding(pooling.padding)
    if pooling.kind == .maximum { return try emit("MaxPool", inputs(node), node, attributes) }
    attributes.append(("count_include_pad", .flag(pooling.kind == .averageOfPadded)))
    try emit("AveragePool", inputs(node), node, attributes)
  }

  mutating func write(_ reduction: Reduction, _ node: Graph.Node) throws(QMError) {
    let name =
      switch reduction.kind {
      case .mean: "ReduceMean"
      case .sum: "ReduceSum"
      case .maximum: "ReduceMax"
      case .minimum: "ReduceMin"
      case .product: "ReduceProd"
      case .sumOfMagnitudes: "ReduceL1"
      case .norm: "ReduceL2"
      case .sumOfSquares: "ReduceSumSquare"
      case .logarithmOfSum: "ReduceLogSum"
      case .logarithmOfSumOfExponentials: "ReduceLogSumExp"
      }
    guard !reduction.axes.isEmpty else {
      // ONNX takes no axes for all, or for none without computing anything: an axis of extent 1 is added
      // and reduced.
      guard let x = node.input(0) else { throw .malformed("input 0 is missing") }
      let axis = try constant([shape(x).rank], stepName(node, "axis"))
      let single = add("Unsqueeze", [try self.name(of: x), axis], as: try stepName(node, "single"))
      return try emit(name, [single, axis], node, [("keepdims", .flag(false))])
    }
    let axes = try constant(reduction.axes, stepName(node, "axes"))
    try emit(name, [input(node, 0), axes], node, [("keepdims", .flag(reduction.keepsAxes))])
  }

  mutating func write(_ operation: ArgMinMax, _ node: Graph.Node) throws(QMError) {
    try emit(
      operation.kind == .maximum ? "ArgMax" : "ArgMin", inputs(node), node,
      [
        ("axis", .integer(operation.axis)), ("keepdims", .flag(operation.keepsAxis)),
        ("select_last_index", .flag(operation.takesLast)),
      ])
  }

  mutating func write(_ operation: TopK, _ node: Graph.Node) throws(QMError) {
    var count = try wideInput(node, 1)
    if let value = node.input(1), shape(value).rank == 0 {
      count = add(
        "Reshape", [count, try constant([1], stepName(node, "shape"))],
        as: try stepName(node, "count"))
    }
    try emit(
      "TopK", [input(node, 0), count], node,
      [("axis", .integer(operation.axis)), ("largest", .flag(operation.takesLargest))])
  }

  mutating func write(_ operation: CumulativeSum, _ node: Graph.Node) throws(QMError) {
    let axis = try constant(Tensor([], [Int64(operation.axis)]), stepName(node, "axis"))
    try emit(
      "CumSum", [input(node, 0), axis], node,
      [
        ("exclusive", .flag(operation.excludesOwn)), ("reverse", .flag(operation.fromEnd)),
      ])
  }
}

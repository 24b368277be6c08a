import QMFormat
import QMGraph
import QMONNX
import QMOperations
import QMQuantization
import QMTensor
import QMTestSupport
import Testing

/// The table of operators says how the nodes of each operator run. For each row, a network of one
/// node is converted and its execution mode compared with the row.
@Suite struct OperatorFactsTests {
  /// A network of one node, with its inputs and constants.
  struct Case: Sendable {
    var node: ONNXNetwork.Node
    /// Nodes that make what the node reads, and `y` of what it returns: sequences are neither inputs
    /// nor outputs.
    var before: [ONNXNetwork.Node] = []
    var after: [ONNXNetwork.Node] = []
    var inputs: [(String, ElementType, [Int])]
    var constants: [(String, Tensor)] = []
    /// Whether the first axis of every input is dynamic.
    let hasDynamicAxis: Bool

    /// A node that reads the inputs `x`, `b`, `c`, …, one per shape, and then the constants.
    init(
      _ operation: String, _ shapes: [[Int]] = [[2, 4, 6]],
      _ attributes: [(name: String, value: ONNXNetwork.Attribute)] = [],
      constants: [Tensor?] = [], outputs: Int = 1, elementType: ElementType = .float32,
      hasDynamicAxis: Bool = false
    ) {
      self.hasDynamicAxis = hasDynamicAxis
      let names = ["x", "b", "c", "d", "e", "f", "g", "h"]
      inputs = zip(names, shapes).map { ($0, elementType, $1) }
      var operands = inputs.map(\.0)
      for (index, tensor) in constants.enumerated() {
        guard let tensor else {
          operands.append("")
          continue
        }
        self.constants.append(("constant\(index)", tensor))
        operands.append("constant\(index)")
      }
      // The name of an operator of another domain begins with it.
      let words = operation.split(separator: ".").map(String.init)
      node = ONNXNetwork.Node(
        words[words.count - 1], operands, ["y"] + (1..<max(outputs, 1)).map { "y\($0)" },
        attributes, domain: words.dropLast().joined(separator: "."))
    }

    func network() -> ONNXNetwork {
      var network = ONNXNetwork(opset: ONNXReader.opsets.upperBound)
      network.inputs = inputs.map { name, elementType, fixed in
        var shape = Shape(fixed)
        if hasDynamicAxis { shape[0] = .free("n") }
        return (name, ValueType(elementType, shape))
      }
      network.constants = constants.map { ($0.0, $0.1) }
      network.nodes = before + [node] + after
      network.outputs = ["y"]
      return network
    }
  }

  private static func integers(_ numbers: [Int]) -> Tensor {
    try! Tensor([numbers.count], numbers.map(Int64.init))
  }

  private static func scalar(_ number: Int) -> Tensor { try! Tensor([], [Int64(number)]) }
  private static func scalar(_ number: Float) -> Tensor { try! Tensor([], [number]) }

  private static func numbers(_ shape: [Int]) -> Tensor {
    var generator = SeededGenerator(seed: 3)
    let count = shape.reduce(1, *)
    return try! Tensor(
      shape, (0..<count).map { _ in Float.random(in: 0.1...1, using: &generator) })
  }

  private static let image = [[1, 4, 6, 6]]

  /// One case per operator of the table.
  static let cases: [String: Case] = {
    var cases: [String: Case] = [:]
    func add(_ value: Case) {
      let domain = value.node.domain
      cases[(domain.isEmpty ? "" : domain + ".") + value.node.operation] = value
    }
    for name in [
      "Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Celu", "Selu", "HardSigmoid", "HardSwish",
      "Sigmoid", "Tanh", "Erf", "Gelu", "Softplus", "Softsign", "Mish", "Exp", "Log", "Sqrt",
      "Reciprocal", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sin", "Cos", "Tan", "Swish",
      "Sinh", "Cosh", "Shrink", "Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "IsNaN",
      "IsInf", "Identity", "Dropout", "Flatten", "ArgMax", "ArgMin",
    ] { add(Case(name)) }
    for name in ["Shape", "Size"] { add(Case(name, hasDynamicAxis: true)) }
    add(Case("NonZero", [], constants: [numbers([2, 3])]))
    for name in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Pow", "Mod"] {
      add(
        Case(
          name, [[2, 4, 6], [2, 4, 6]], name == "Mod" ? [("fmod", .integer(1))] : []))
    }
    for name in ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"] {
      add(Case(name, [[2, 4, 6], [2, 4, 6]]))
    }
    for name in ["And", "Or", "Xor"] {
      add(Case(name, [[2, 4, 6], [2, 4, 6]], elementType: .bool))
    }
    add(Case("Not", elementType: .bool))
    add(Case("BitwiseNot", elementType: .int32))
    for name in [
      "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
      "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
    ] { add(Case(name, constants: [integers([1])])) }
    add(Case("PRelu", [[2, 4, 6]], constants: [numbers([4, 1])]))
    add(Case("Clip", constants: [scalar(Float(-0.5)), scalar(Float(0.5))]))
    add(Case("Cast", [[2, 4, 6]], [("to", .integer(6))]))
    add(Case("CastLike", constants: [try! Tensor([1], [Int32(1)])]))
    add(Case("Conv", image, constants: [numbers([8, 4, 3, 3])]))
    add(Case("ConvTranspose", image, constants: [numbers([4, 8, 3, 3])]))
    add(Case("Gemm", [[3, 6]], constants: [numbers([6, 5])]))
    add(Case("MatMul", [[3, 6]], constants: [numbers([6, 5])]))
    for (name, gates) in [("RNN", 1), ("GRU", 3), ("LSTM", 4)] {
      add(
        Case(
          name, [[3, 2, 4]], [("hidden_size", .integer(5))],
          constants: [numbers([1, gates * 5, 4]), numbers([1, gates * 5, 5])]))
    }
    add(Case("RMSNormalization", constants: [numbers([6])]))
    add(Case("MeanVarianceNormalization", image))
    add(Case("LRN", image, [("size", .integer(3))]))
    add(Case("LpPool", image, [("kernel_shape", .integers([2, 2]))]))
    add(Case("EyeLike", [[3, 4]]))
    add(Case("CenterCropPad", [[4, 6]], constants: [integers([2, 8])]))
    add(Case("Attention", [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]))
    add(
      Case(
        "RotaryEmbedding", [[1, 2, 3, 4]],
        constants: [numbers([3, 2]), numbers([3, 2]), try! Tensor([1, 3], [Int64](0..<3))]))
    add(Case("Einsum", [[3, 6], [6, 5]], [("equation", .text("ij,jk->ik"))]))
    var select = Case("Where", [[2, 4, 6], [2, 4, 6]])
    select.inputs.append(("m", .bool, [2, 4, 6]))
    select.node.inputs = ["m", "x", "b"]
    add(select)
    add(Case("TopK", constants: [integers([2])], outputs: 2))
    add(Case("CumSum", constants: [scalar(1)]))
    add(Case("Range", [], constants: [scalar(0), scalar(6), scalar(2)]))
    var oneHot = Case(
      "OneHot", [], constants: [scalar(5), try! Tensor([2], [Float(0), 1])])
    oneHot.inputs = [("x", .int64, [2, 3])]
    oneHot.node.inputs.insert("x", at: 0)
    add(oneHot)
    add(Case("Trilu", [[4, 6]]))
    add(Case("MaxPool", image, [("kernel_shape", .integers([2, 2]))]))
    add(Case("AveragePool", image, [("kernel_shape", .integers([2, 2]))]))
    add(Case("GlobalAveragePool", image))
    add(Case("GlobalMaxPool", image))
    add(
      Case(
        "BatchNormalization", image,
        constants: [numbers([4]), numbers([4]), numbers([4]), numbers([4])]))
    add(Case("LayerNormalization", constants: [numbers([6])]))
    add(Case("InstanceNormalization", image, constants: [numbers([4]), numbers([4])]))
    add(
      Case(
        "GroupNormalization", image, [("num_groups", .integer(2))],
        constants: [numbers([4]), numbers([4])]))
    add(Case("Resize", image, constants: [nil, try! Tensor([4], [Float(1), 1, 2, 2])]))
    add(Case("Upsample", image, constants: [try! Tensor([4], [Float(1), 1, 2, 2])]))
    add(Case("DepthToSpace", image, [("blocksize", .integer(2))]))
    add(Case("SpaceToDepth", image, [("blocksize", .integer(2))]))
    add(Case("Reshape", constants: [integers([4, 12])]))
    add(Case("Squeeze", [[2, 1, 6]], constants: [integers([1])]))
    add(Case("Unsqueeze", constants: [integers([1])]))
    add(Case("Transpose"))
    add(Case("Concat", [[2, 4, 6], [2, 4, 6]], [("axis", .integer(1))]))
    add(
      Case(
        "Split", [[2, 4, 6]], [("axis", .integer(1)), ("num_outputs", .integer(2))], outputs: 2))
    add(Case("Slice", constants: [integers([1]), integers([3]), integers([1])]))
    add(Case("Pad", constants: [integers([0, 0, 1, 0, 0, 1])]))
    add(Case("Gather", constants: [integers([1, 0])]))
    add(
      Case(
        "GatherElements", [[2, 3]],
        constants: [try! Tensor([2, 3], [Int64](repeating: 1, count: 6))]))
    add(Case("GatherND", [[2, 3]], constants: [try! Tensor([2, 1], [Int64(1), 0])]))
    for name in ["Scatter", "ScatterElements"] {
      add(scattering(name, indices: [1, 3]))
    }
    add(scattering("ScatterND", indices: [1, 1]))
    add(Case("Expand", [[2, 1, 6]], constants: [integers([2, 4, 6])]))
    add(Case("Tile", constants: [integers([1, 2, 1])]))
    add(Case("ConstantOfShape", [], constants: [integers([2, 3])]))
    add(Case("Constant", [], [("value", .tensor(numbers([2, 3])))]))
    var condition = Case("If", [[2, 4, 6]])
    condition.inputs.append(("m", .bool, []))
    condition.node.inputs = ["m"]
    condition.inputs.append(("b", .float32, [2, 4, 6]))
    for (name, value) in [("then_branch", "x"), ("else_branch", "b")] {
      var branch = ONNXNetwork(opset: 0)
      branch.nodes = [ONNXNetwork.Node("Identity", [value], ["branch"])]
      branch.outputs = ["branch"]
      condition.node.attributes.append((name, .network(branch)))
    }
    add(condition)
    for (name, value) in loops { cases[name] = value }
    for (name, value) in sequences { cases[name] = value }
    learned(add)
    microsoft(add)
    chains(add)
    return cases
  }()

  /// A loop whose number of iterations is an input, and a scan along a dynamic axis.
  private static let loops: [String: Case] = {
    var body = ONNXNetwork(opset: 0)
    body.inputs = [
      ("i", ValueType(.int64, [])), ("go", ValueType(.bool, [])),
      ("h", ValueType(.float32, [2, 6])),
    ]
    body.nodes = [
      ONNXNetwork.Node("Tanh", ["h"], ["hn"]), ONNXNetwork.Node("Identity", ["go"], ["gone"]),
    ]
    body.outputs = ["gone", "hn"]
    var loop = Case("Loop", [[2, 6]], [("body", .network(body))])
    loop.inputs.append(("count", .int64, []))
    loop.node.inputs = ["count", "", "x"]
    var step = ONNXNetwork(opset: 0)
    step.inputs = [("h", ValueType(.float32, [6])), ("x", ValueType(.float32, [6]))]
    step.nodes = [ONNXNetwork.Node("Add", ["h", "x"], ["hn"])]
    step.outputs = ["hn"]
    var scan = Case(
      "Scan", [[2, 6]], [("body", .network(step)), ("num_scan_inputs", .integer(1))],
      hasDynamicAxis: true)
    scan.constants = [("first", numbers([6]))]
    scan.node.inputs = ["first", "x"]
    return ["Loop": loop, "Scan": scan]
  }()

  private static let sequences: [String: Case] = {
    let pair = ONNXNetwork.Node("SequenceConstruct", ["x", "x"], ["l"])
    let first = ONNXNetwork.Node("SequenceAt", ["l", "zero"], ["y"])
    let joined = ONNXNetwork.Node(
      "ConcatFromSequence", ["l"], ["y"], [("axis", .integer(0))])
    var cases: [String: Case] = [:]
    func add(
      _ node: ONNXNetwork.Node, before: [ONNXNetwork.Node] = [], after: [ONNXNetwork.Node] = []
    ) {
      var value = Case(node.operation)
      value.constants = [("zero", scalar(0))]
      (value.node, value.before, value.after) = (node, before, after)
      cases[node.operation] = value
    }
    add(pair, after: [first])
    add(first, before: [pair])
    add(joined, before: [pair])
    add(
      ONNXNetwork.Node("SequenceEmpty", [], ["e"]),
      after: [ONNXNetwork.Node("SequenceInsert", ["e", "x"], ["l"]), first])
    add(
      ONNXNetwork.Node("SequenceInsert", ["l0", "x"], ["l"]),
      before: [
        ONNXNetwork.Node("SequenceEmpty", [], ["l0"])
      ], after: [first])
    add(
      ONNXNetwork.Node("SequenceErase", ["l0", "zero"], ["l"]),
      before: [
        ONNXNetwork.Node("SequenceConstruct", ["x", "x"], ["l0"])
      ], after: [first])
    add(
      ONNXNetwork.Node("SequenceLength", ["l"], ["n"]), before: [pair],
      after: [ONNXNetwork.Node("Identity", ["n"], ["y"])])
    add(ONNXNetwork.Node("SplitToSequence", ["x"], ["l"]), after: [first])
    add(ONNXNetwork.Node("Optional", ["x"], ["y"]))
    add(ONNXNetwork.Node("OptionalGetElement", ["x"], ["y"]))
    add(ONNXNetwork.Node("OptionalHasElement", ["x"], ["y"]))
    return cases
  }()

  private static func learned(_ add: (Case) -> Void) {
    func operation(
      _ name: String, _ attributes: [(name: String, value: ONNXNetwork.Attribute)] = [],
      constants: [Tensor] = []
    ) { add(Case("ai.onnx.ml." + name, [[2, 6]], attributes, constants: constants)) }
    operation("Scaler", [("offset", .numbers([0.5])), ("scale", .numbers([2]))])
    operation("Normalizer")
    operation("Imputer", [("imputed_value_floats", .numbers([1]))])
    operation("Binarizer")
    let coefficients: ONNXNetwork.Attribute = .numbers((0..<12).map { Float($0 % 5) - 2 })
    operation("LinearRegressor", [("coefficients", coefficients), ("targets", .integer(2))])
    operation(
      "LinearClassifier",
      [("coefficients", coefficients), ("classlabels_ints", .integers([3, 4]))])
    let tree: [(name: String, value: ONNXNetwork.Attribute)] = [
      ("nodes_treeids", .integers([0, 0, 0])), ("nodes_nodeids", .integers([0, 1, 2])),
      ("nodes_featureids", .integers([4, 0, 0])), ("nodes_values", .numbers([0.5, 0, 0])),
      ("nodes_modes", .texts(["BRANCH_LEQ", "LEAF", "LEAF"])),
      ("nodes_truenodeids", .integers([1, 0, 0])), ("nodes_falsenodeids", .integers([2, 0, 0])),
    ]
    func leaves(_ prefix: String) -> [(name: String, value: ONNXNetwork.Attribute)] {
      [
        ("\(prefix)_treeids", .integers([0, 0])), ("\(prefix)_nodeids", .integers([1, 2])),
        ("\(prefix)_ids", .integers([0, 0])), ("\(prefix)_weights", .numbers([0.25, 2])),
      ]
    }
    operation("TreeEnsembleRegressor", tree + leaves("target"))
    operation(
      "TreeEnsembleClassifier",
      tree + leaves("class") + [("classlabels_int64s", .integers([3, 4]))])
    operation(
      "TreeEnsemble",
      [
        ("tree_roots", .integers([0])), ("nodes_featureids", .integers([4])),
        ("nodes_splits", .tensor(numbers([1]))),
        ("nodes_modes", .tensor(try! Tensor([1], [UInt8(0)]))),
        ("nodes_truenodeids", .integers([0])), ("nodes_falsenodeids", .integers([1])),
        ("nodes_trueleafs", .integers([1])), ("nodes_falseleafs", .integers([1])),
        ("leaf_targetids", .integers([0, 0])), ("leaf_weights", .tensor(numbers([2]))),
      ])
    operation("ArrayFeatureExtractor", constants: [integers([1, 3])])
    operation("ZipMap", [("classlabels_int64s", .integers([1, 2, 3, 4, 5, 6]))])
    var encoder = Case(
      "ai.onnx.ml.LabelEncoder", [[2, 3]],
      [("keys_int64s", .integers([0, 1])), ("values_floats", .numbers([0.5, 2]))],
      elementType: .int64)
    encoder.node.outputs = ["y"]
    add(encoder)
  }

  /// Operators that become chains of others.
  private static func chains(_ add: (Case) -> Void) {
    let size = scalar(16)
    for name in ["Asin", "Acos", "Atan", "Asinh", "Atanh", "Acosh"] { add(Case(name)) }
    add(Case("DFT", [[2, 8, 1]], constants: [nil, scalar(1)]))
    add(Case("STFT", [[1, 64, 1]], constants: [scalar(8), nil, size]))
    for name in ["HannWindow", "HammingWindow", "BlackmanWindow"] {
      add(Case(name, [], constants: [size]))
    }
    add(
      Case(
        "MelWeightMatrix", [],
        constants: [scalar(8), size, scalar(8192), scalar(Float(0)), scalar(Float(4096))]))
    for name in ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"] {
      add(Case(name, [[3, 5]], constants: [try! Tensor([3], [Int64(1), 0, 4])]))
    }
    add(Case("BitShift", [[2, 3], [2, 3]], [("direction", .text("LEFT"))], elementType: .int32))
    for name in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"] {
      add(Case(name, [[2, 3], [2, 3]], elementType: .int32))
    }
    add(Case("BitCast", [], [("to", .integer(6))], constants: [numbers([2, 3])]))
    var deformed = Case(
      "DeformConv", [[1, 4, 6, 6], [1, 18, 4, 4]], constants: [numbers([2, 4, 3, 3])])
    deformed.node.inputs = ["x", "constant0", "b"]
    add(deformed)
    add(Case("Det", [[2, 3, 3]]))
    add(Case("GridSample", [[1, 4, 6, 6], [1, 2, 2, 2]]))
    add(Case("AffineGrid", [[1, 2, 3]], constants: [integers([1, 4, 2, 3])]))
    add(
      Case(
        "MaxUnpool", [[1, 1, 2, 2]],
        [("kernel_shape", .integers([2, 2])), ("strides", .integers([2, 2]))],
        constants: [try! Tensor([1, 1, 2, 2], [Int64(0), 3, 8, 10])]))
    add(Case("Col2Im", [[1, 4, 9]], constants: [integers([4, 4]), integers([2, 2])]))
    add(
      Case(
        "RoiAlign", image, [("sampling_ratio", .integer(2)), ("output_height", .integer(2))],
        constants: [numbers([3, 4]), integers([0, 0, 0])]))
    add(Case("CumProd", constants: [scalar(1)]))
    add(Case("ReverseSequence", [[4, 2, 3]], constants: [integers([3, 2])]))
    add(
      Case(
        "Compress", [[2, 4]], [("axis", .integer(1))],
        constants: [try! Tensor([4], [true, false, true, true])]))
    add(Case("SwiGLU", [[2, 6], [2, 6]]))
    add(Case("TensorScatter", [[2, 8, 3], [2, 2, 3]], constants: [integers([1, 4])]))
    add(Case("CausalConvWithState", [[1, 4, 8]], constants: [numbers([4, 1, 3])]))
  }

  private static func microsoft(_ add: (Case) -> Void) {
    let (row, rows) = ([[2, 6]], [[2, 6], [2, 6]])
    add(Case("com.microsoft.Gelu", row))
    add(Case("com.microsoft.BiasGelu", row, constants: [numbers([6])]))
    add(Case("com.microsoft.FastGelu", row))
    add(Case("com.microsoft.QuickGelu", row))
    add(Case("com.microsoft.SkipLayerNormalization", rows, constants: [numbers([6])]))
    add(Case("com.microsoft.SkipSimplifiedLayerNormalization", rows, constants: [numbers([6])]))
    add(Case("SimplifiedLayerNormalization", row, constants: [numbers([6])]))
    add(Case("com.microsoft.FusedMatMul", row, constants: [numbers([6, 5])]))
    add(Case("com.microsoft.FusedGemm", row, constants: [numbers([6, 5])]))
    add(Case("com.microsoft.FusedConv", image, constants: [numbers([8, 4, 3, 3])]))
  }

  private static func scattering(_ name: String, indices: [Int]) -> Case {
    var result = Case(name, [[2, 3], name == "ScatterND" ? [1, 3] : indices])
    let count = indices.reduce(1, *)
    result.constants = [("indices", try! Tensor(indices, [Int64](repeating: 1, count: count)))]
    result.node.inputs = ["x", "indices", "b"]
    return result
  }

  /// Operators on codes: how they run depends on the codes around them. And those whose result has an
  /// extent that only the run knows, so that no product can follow it.
  private static let borders = Set(OperatorTable.quantizedOperators.map(\.name))
    .union(["NonMaxSuppression", "Unique"])

  @Test func everyRowHasACase() {
    #expect(
      Set(Self.cases.keys).union(Self.borders) == Set(OperatorTable.operators.map(\.name)))
  }

  /// The node is followed by a product, so that its result is quantized.
  @Test(arguments: OperatorTable.operators.map(\.name).filter { !borders.contains($0) })
  func runsAsTheTableSays(name: String) throws {
    let row = try #require(OperatorTable.operators.first { $0.name == name })
    let modes = try Self.modes(of: #require(Self.cases[name]))
    let ranked: [ExecutionMode] = [.float, .integer, .table, .move]
    let mode = ranked.first(where: modes.contains)
    #expect(row.mode == mode, "\(name) runs as \(mode?.name ?? "read")")
  }

  /// The execution modes of the nodes that a case becomes, without the added products and the
  /// quantization of inputs.
  private static func modes(of value: Case) throws -> Set<ExecutionMode> {
    var network = value.network()
    let alone = try ONNXReader.read(bytes: network.encoded())
    let type = alone[alone.outputs[0].value].type
    let count = try #require(type.shape.extents).reduce(1, *)
    if type.elementType != .float32 {
      network.nodes.append(.init("Cast", ["y"], ["tail.numbers"], [("to", .integer(1))]))
    }
    network.constants.append(("tail.rows", integers([1, count])))
    network.constants.append(("tail.weights", numbers([count, 3])))
    network.nodes += [
      .init(
        "Reshape", [type.elementType == .float32 ? "y" : "tail.numbers", "tail.rows"],
        ["tail.row"]),
      .init("MatMul", ["tail.row", "tail.weights"], ["tail.product"]),
    ]
    network.outputs = ["tail.product"]
    // Products that also read the inputs, so that the inputs are quantized.
    for (name, elementType, shape) in value.inputs where elementType == .float32 {
      let count = shape.reduce(1, *)
      network.constants.append(("tail.\(name).weights", numbers([count, 3])))
      network.constants.append(("tail.\(name).rows", integers([1, count])))
      network.nodes += [
        .init("Reshape", [name, "tail.\(name).rows"], ["tail.\(name).row"]),
        .init("MatMul", ["tail.\(name).row", "tail.\(name).weights"], ["tail.\(name)"]),
      ]
      network.outputs.append("tail.\(name)")
    }
    let graph = try ONNXReader.read(bytes: network.encoded())
    var recipe = Recipe(weights: .codes(8))
    // Everything that can run on codes does, whatever the error.
    recipe.thresholds.sufficientDecibels = -1000
    recipe.thresholds.sufficientDecibelsOfLogOdds = -1000
    let program = try Converter(recipe: recipe).convert(graph, samples: RandomSamples(graph))
      .program
    var modes: Set<ExecutionMode> = []
    for node in program.nodes where !node.name.hasPrefix("tail.") {
      switch node.operation {
      case .quantize, .dequantize, .dynamicQuantize: break
      default: modes.insert(program.note(of: node).mode)
      }
    }
    return modes
  }
}

/// Random positive numbers for every input, for which every operator is defined.
private struct RandomSamples: SampleSource {
  let inputs: [(name: String, type: ValueType)]

  init(_ graph: Graph) { inputs = graph.inputs.map { (graph[$0].name, graph[$0].type) } }

  var count: Int { 2 }
  func name(of index: Int) -> String { "\(index)" }
  func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    var generator = SeededGenerator(seed: UInt64(index))
    var result: [String: Tensor] = [:]
    for (name, type) in inputs {
      let shape = type.shape.axes.map { $0.extent ?? 2 }
      let count = shape.reduce(1, *)
      let numbers = (0..<count).map { _ in Float.random(in: 0.1...1, using: &generator) }
      result[name] =
        switch type.elementType {
        case .bool: try Tensor(shape, numbers.map { $0 > 0.5 })
        case .int64: try Tensor(shape, numbers.map { Int64($0 * 3) })
        case .int32: try Tensor(shape, numbers.map { Int32($0 * 3) })
        case .int8: try Tensor(shape, numbers.map { Int8($0 * 100) })
        default: try Tensor(shape, numbers)
        }
    }
    return result
  }
}

import QMOperations
import QMTensor

/// One row of the table of supported operators.
public struct ONNXOperator: Sendable {
  /// ONNX's name of the operator (`op_type`), with its domain unless that is ONNX's own:
  /// `com.microsoft.QGemm`.
  public let name: String
  /// Versions of ONNX's operator set, in the same file, in which the operator is supported.
  public let opsets: ClosedRange<Int>
  /// How its nodes run if all operands are quantized that can be; nil if reading the network
  /// removes the nodes.
  public let mode: ExecutionMode?
  /// Limitations or remarks; may be empty.
  public let note: String
  let inputs: ClosedRange<Int>
  let read: @Sendable (NodeReader) throws(QMError) -> Void

  /// The name of ``mode`` in the table.
  public var modeName: String { mode?.name ?? "read" }

  /// Operators that are supported in versions before 7, with their first version.
  private static let earlier: [String: Int] = [
    "Abs": 6, "Add": 6, "ArgMax": 1, "ArgMin": 1, "AveragePool": 1, "BatchNormalization": 6,
    "Cast": 6, "Ceil": 6, "Clip": 6, "Concat": 1, "Constant": 1, "Conv": 1, "ConvTranspose": 1,
    "DepthToSpace": 1, "Div": 6, "Dropout": 6, "Elu": 6, "Exp": 6, "Flatten": 1, "Floor": 6,
    "Gather": 1, "Gemm": 6, "GlobalAveragePool": 1, "GlobalMaxPool": 1, "HardSigmoid": 6,
    "Identity": 1, "InstanceNormalization": 6, "LeakyRelu": 6, "Log": 6, "LogSoftmax": 1,
    "LpNormalization": 1, "MatMul": 1, "Max": 6, "MaxPool": 1, "Mean": 6, "Min": 6, "Mul": 6,
    "Neg": 6, "Not": 1, "PRelu": 6, "Pad": 2, "Reciprocal": 6, "ReduceL1": 1, "ReduceL2": 1,
    "ReduceLogSum": 1, "ReduceLogSumExp": 1, "ReduceMax": 1, "ReduceMean": 1, "ReduceMin": 1,
    "ReduceProd": 1, "ReduceSum": 1, "ReduceSumSquare": 1, "Relu": 6, "Reshape": 5, "Selu": 6,
    "Shape": 1, "Sigmoid": 6, "Size": 1, "Slice": 1, "Softmax": 1, "Softplus": 1, "Softsign": 1,
    "SpaceToDepth": 1, "Split": 2, "Sqrt": 6, "Squeeze": 1, "Sub": 6, "Sum": 6, "Tanh": 6,
    "Tile": 6, "TopK": 1, "Transpose": 1, "Unsqueeze": 1,
  ]

  init(
    _ name: String, since first: Int = 7, inputs: ClosedRange<Int>,
    _ mode: ExecutionMode?, _ note: String = "",
    _ read: @escaping @Sendable (NodeReader) throws(QMError) -> Void
  ) {
    self.name = name
    self.opsets = (Self.earlier[name] ?? first)...ONNXReader.opsets.upperBound
    self.mode = mode
    self.note = note
    self.inputs = inputs
    self.read = read
  }
}

/// The supported ONNX operators, each with the function that reads it.
public enum OperatorTable {
  static let entries: [String: ONNXOperator] = Dictionary(
    uniqueKeysWithValues: operators.map { ($0.name, $0) })

  /// Unsupported operators for which there is a better remedy than to cut the graph.
  static let refusals: [String: QMError] = {
    var refusals: [String: QMError] = [:]
    for name in [
      "StringNormalizer", "TfIdfVectorizer", "StringConcat", "StringSplit", "RegexFullMatch",
    ] {
      refusals[name] = .unsupported(
        "operators on text cannot be read, only those on numbers", remedies: .cutAfter)
    }
    return refusals
  }()

  /// The operators, sorted by name.
  public static var sorted: [ONNXOperator] { operators.sorted { $0.name < $1.name } }

  /// The table as lines of Markdown, as in schema/operators.md.
  public static var markdown: [String] {
    var rows = [["operator", "opsets", "runs as", "notes"]]
    for entry in sorted {
      rows.append([
        entry.name, "\(entry.opsets.lowerBound)–\(entry.opsets.upperBound)", entry.modeName,
        entry.note,
      ])
    }
    let widths = (0..<4).map { column in rows.map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
      let padded = zip(cells, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
      return "| " + padded.joined(separator: " | ") + " |"
    }
    var lines = rows.map(line)
    lines.insert(
      "|" + widths.map { String(repeating: "-", count: $0 + 2) }.joined(separator: "|") + "|", at: 1
    )
    return lines
  }

  static let many = Int(Int16.max)

  /// The operators, by family.
  public static let operators: [ONNXOperator] =
    floatOperators + domainOperators + quantizedOperators

  /// ONNX's own operators on numbers.
  private static let floatOperators: [ONNXOperator] = [
    // Convolution
    ONNXOperator("Conv", inputs: 2...3, .integer) { (node) throws(QMError) in
      try node.convolution()
    },

    ONNXOperator("ConvTranspose", inputs: 2...3, .integer, "output_shape only with a known shape") {
      (node) throws(QMError) in try node.transposedConvolution()
    },

    // MatrixMultiply
    ONNXOperator("Gemm", inputs: 2...3, .integer) { (node) throws(QMError) in try node.gemm() },
    ONNXOperator("MatMul", inputs: 2...2, .integer) { (node) throws(QMError) in
      try node.matrixMultiply()
    },

    // Recurrent
    recurrent("RNN", inputs: 3...6, .simple),
    recurrent("GRU", inputs: 3...6, .gru),
    recurrent("LSTM", inputs: 3...8, .lstm),

    // Elementwise
    binary("Add", .add),
    binary("Sub", .subtract),
    ONNXOperator("Mul", inputs: 2...2, .integer) { (node) throws(QMError) in
      if try node.scaledIntegerProduct() { return }
      try node.binary(.multiply)
      try node.rememberFactors()
    },
    binary("Div", .divide, whereCoded),
    ONNXOperator("Mod", since: 10, inputs: 2...2, .integer, whereCoded) { (node) throws(QMError) in
      try node.remainder()
    },
    ONNXOperator("Pow", inputs: 2...2, .integer, whereCoded) { (node) throws(QMError) in
      try node.power()
    },
    ONNXOperator("Min", inputs: 1...many, .integer) { (node) throws(QMError) in
      try node.many(.minimum)
    },
    ONNXOperator("Max", inputs: 1...many, .integer) { (node) throws(QMError) in
      try node.many(.maximum)
    },
    ONNXOperator("Sum", inputs: 1...many, .integer) { (node) throws(QMError) in
      try node.many(.add)
    },
    ONNXOperator("Mean", inputs: 1...many, .integer) { (node) throws(QMError) in
      try node.meanOfInputs()
    },
    unary("Relu") { _ in .relu },
    unary("LeakyRelu") { (node) throws(QMError) in
      .leakyRelu(slope: try node.number("alpha", default: 0.01))
    },
    unary("ThresholdedRelu", since: 10) { (node) throws(QMError) in
      .thresholdedRelu(threshold: try node.number("alpha", default: 1))
    },
    unary("Elu") { (node) throws(QMError) in .elu(alpha: try node.number("alpha", default: 1)) },
    unary("Celu", since: 12) { (node) throws(QMError) in
      .celu(alpha: try node.number("alpha", default: 1))
    },
    unary("Selu") { (node) throws(QMError) in
      .selu(
        alpha: try node.number("alpha", default: 1.67326319217681884765625),
        gamma: try node.number("gamma", default: 1.05070102214813232421875))
    },
    unary("HardSigmoid") { (node) throws(QMError) in
      .hardSigmoid(
        alpha: try node.number("alpha", default: 0.2), beta: try node.number("beta", default: 0.5))
    },
    unary("HardSwish", since: 14) { _ in .hardSwish },
    unary("Sigmoid") { _ in .sigmoid },
    unary("Tanh") { _ in .tanh },
    unary("Erf", since: 9) { _ in .erf },
    unary("Gelu", since: 20) { (node) throws(QMError) in try node.gelu() },
    unary("Softplus") { _ in .softplus },
    unary("Softsign") { _ in .softsign },
    unary("Mish", since: 18) { _ in .mish },
    unary("Exp") { _ in .exponential },
    unary("Log") { _ in .logarithm },
    unary("Sqrt") { _ in .squareRoot },
    unary("Reciprocal") { _ in .reciprocal },
    unary("Abs") { _ in .absolute },
    unary("Neg") { _ in .negate },
    unary("Sign", since: 9) { _ in .sign },
    unary("Floor") { _ in .floor },
    unary("Ceil") { _ in .ceiling },
    unary("Round", since: 11) { _ in .round },
    unary("Sin") { _ in .sine },
    unary("Cos") { _ in .cosine },
    unary("Tan") { _ in .tangent },
    ONNXOperator("Clip", inputs: 1...3, .table) { (node) throws(QMError) in try node.clip() },
    ONNXOperator("Cast", inputs: 1...1, .float, "not to or from strings, float4 and float8") {
      (node) throws(QMError) in
      try node.cast()
      try node.rememberSums()
    },
    ONNXOperator("PRelu", inputs: 2...2, .integer) { (node) throws(QMError) in
      try node.parametricRelu()
    },

    // Decomposed
    decomposed("CastLike", since: 15, inputs: 2...2) { (node) throws(QMError) in
      try node.castLike()
    },
    decomposed("Swish", since: 24, inputs: 1...1, .table) { (node) throws(QMError) in
      try node.swish()
    },
    decomposed("Sinh", since: 9, inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.hyperbolic(isCosine: false)
    },
    decomposed("Cosh", since: 9, inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.hyperbolic(isCosine: true)
    },
    decomposed("Shrink", since: 9, inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.shrink()
    },
    decomposed("RMSNormalization", since: 23, inputs: 2...2, .integer) { (node) throws(QMError) in
      try node.rmsNormalization()
    },
    decomposed("MeanVarianceNormalization", since: 9, inputs: 1...1, .integer) {
      (node) throws(QMError) in
      try node.meanVarianceNormalization()
    },
    decomposed("LRN", inputs: 1...1, .float, "known channels") { (node) throws(QMError) in
      try node.localResponseNormalization()
    },
    decomposed("LpPool", inputs: 1...1, .integer, "ceil_mode with fixed axes") {
      (node) throws(QMError) in try node.lpPooling()
    },
    decomposed("Det", since: 11, inputs: 1...1, .float, "up to 32 rows") {
      (node) throws(QMError) in try node.determinant()
    },
    decomposed("Hardmax", inputs: 1...1, .integer, "known axis") { (node) throws(QMError) in
      try node.hardmax()
    },
    decomposed("EyeLike", since: 9, inputs: 1...1, nil, "known shape") {
      (node) throws(QMError) in
      try node.eyeLike()
    },
    decomposed("BitwiseNot", since: 18, inputs: 1...1, .move) { (node) throws(QMError) in
      try node.bitwiseNot()
    },
    decomposed("CenterCropPad", since: 18, inputs: 2...2, .move, "known shape") {
      (node) throws(QMError) in try node.centerCropPad()
    },
    ONNXOperator(
      "Attention", since: 23, inputs: 3...7, .integer
    ) { (node) throws(QMError) in try node.attention() },
    decomposed("RotaryEmbedding", since: 23, inputs: 3...4) { (node) throws(QMError) in
      try node.rotaryEmbedding()
    },
    ONNXOperator(
      "Einsum", since: 12, inputs: 1...many, .integer, "diagonals of fixed axes"
    ) { (node) throws(QMError) in try node.einsum() },

    // Trigonometry
    decomposed("Asin", inputs: 1...1) { (node) throws(QMError) in try node.asin() },
    decomposed("Acos", inputs: 1...1) { (node) throws(QMError) in try node.acos() },
    decomposed("Atan", inputs: 1...1) { (node) throws(QMError) in try node.atan() },
    decomposed("Asinh", since: 9, inputs: 1...1) { (node) throws(QMError) in try node.asinh() },
    decomposed("Acosh", since: 9, inputs: 1...1) { (node) throws(QMError) in try node.acosh() },
    decomposed("Atanh", since: 9, inputs: 1...1) { (node) throws(QMError) in try node.atanh() },

    // Signals
    decomposed("DFT", since: 17, inputs: 1...3, .integer, "constant length and axis") {
      (node) throws(QMError) in try node.discreteFourierTransform()
    },
    decomposed("STFT", since: 17, inputs: 2...4, .integer, "constant step, window and length") {
      (node) throws(QMError) in try node.shortTimeFourierTransform()
    },
    decomposed("HannWindow", since: 17, inputs: 1...1, nil, "constant size") {
      (node) throws(QMError) in try node.window([0.5, -0.5])
    },
    decomposed("HammingWindow", since: 17, inputs: 1...1, nil, "constant size") {
      (node) throws(QMError) in try node.window([25.0 / 46, -21.0 / 46])
    },
    decomposed("BlackmanWindow", since: 17, inputs: 1...1, nil, "constant size") {
      (node) throws(QMError) in try node.window([0.42, -0.5, 0.08])
    },
    decomposed("MelWeightMatrix", since: 17, inputs: 5...5, nil, "constant inputs") {
      (node) throws(QMError) in try node.melWeightMatrix()
    },

    // Losses
    decomposed("NegativeLogLikelihoodLoss", since: 12, inputs: 2...3, .integer) {
      (node) throws(QMError) in try node.negativeLogLikelihood()
    },
    decomposed("SoftmaxCrossEntropyLoss", since: 12, inputs: 2...3, .integer) {
      (node) throws(QMError) in try node.softmaxCrossEntropy()
    },

    // Bits
    decomposed("BitShift", since: 11, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.bitShift()
    },
    decomposed("BitwiseAnd", since: 18, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.bitwise(.and)
    },
    decomposed("BitwiseOr", since: 18, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.bitwise(.or)
    },
    decomposed("BitwiseXor", since: 18, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.bitwise(.exclusiveOr)
    },
    decomposed("BitCast", since: 26, inputs: 1...1, nil, "of constants") {
      (node) throws(QMError) in try node.bitCast()
    },

    // Sampling
    decomposed("GridSample", since: 16, inputs: 2...2, .float, "fixed spatial axes") {
      (node) throws(QMError) in try node.gridSample()
    },
    decomposed("RoiAlign", since: 10, inputs: 3...3, .integer, "with sampling_ratio") {
      (node) throws(QMError) in try node.regionAlign()
    },
    decomposed("AffineGrid", since: 20, inputs: 2...2, .integer, "constant extents") {
      (node) throws(QMError) in try node.affineGrid()
    },
    decomposed("MaxUnpool", since: 9, inputs: 2...3, .move, "fixed shape") {
      (node) throws(QMError) in try node.maxUnpool()
    },
    decomposed("Col2Im", since: 18, inputs: 3...3, .float, "constant extents") {
      (node) throws(QMError) in try node.columnsToImage()
    },

    decomposed("DeformConv", since: 19, inputs: 3...5, .float, "fixed channels and spatial axes") {
      (node) throws(QMError) in try node.deformableConvolution()
    },
    ONNXOperator(
      "NonMaxSuppression", since: 10, inputs: 2...5, .float, "how many boxes, the run finds"
    ) { (node) throws(QMError) in try node.nonMaxSuppression() },

    // Sections
    decomposed("CumProd", since: 26, inputs: 2...2, .integer, "constant axis, fixed extent") {
      (node) throws(QMError) in try node.cumulativeProduct()
    },
    decomposed("ReverseSequence", since: 10, inputs: 2...2, .move, "fixed extent") {
      (node) throws(QMError) in try node.reverseSequence()
    },
    decomposed("Compress", since: 9, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.compress()
    },
    decomposed(
      "Unique", since: 11, inputs: 1...1, .float, "how many elements, the run finds"
    ) { (node) throws(QMError) in try node.unique() },
    decomposed("SwiGLU", since: 28, inputs: 2...2, .integer) { (node) throws(QMError) in
      try node.swishGate()
    },
    decomposed("TensorScatter", since: 24, inputs: 2...3, .move, "fixed extents") {
      (node) throws(QMError) in try node.tensorScatter()
    },
    decomposed("CausalConvWithState", since: 27, inputs: 2...4, .integer) {
      (node) throws(QMError) in try node.causalConvolution()
    },

    // Comparison
    comparison("Equal", .equal),
    comparison("Less", .less),
    comparison("LessOrEqual", since: 12, .lessOrEqual),
    comparison("Greater", .greater),
    comparison("GreaterOrEqual", since: 12, .greaterOrEqual),
    logic("And", .and),
    logic("Or", .or),
    logic("Xor", .exclusiveOr),
    ONNXOperator("Not", inputs: 1...1, .move) { (node) throws(QMError) in try node.not() },
    ONNXOperator("IsNaN", since: 9, inputs: 1...1, .float) { (node) throws(QMError) in
      try node.isNaN()
    },
    ONNXOperator("IsInf", since: 10, inputs: 1...1, .float) { (node) throws(QMError) in
      try node.isInfinite()
    },
    ONNXOperator("Where", since: 9, inputs: 3...3, .move) { (node) throws(QMError) in
      try node.select()
    },

    // Ordering
    ONNXOperator("ArgMax", inputs: 1...1, .integer, whereCoded) { (node) throws(QMError) in
      try node.argMinMax(.maximum)
    },
    ONNXOperator("ArgMin", inputs: 1...1, .integer, whereCoded) { (node) throws(QMError) in
      try node.argMinMax(.minimum)
    },
    ONNXOperator("TopK", inputs: 1...2, .float) { (node) throws(QMError) in try node.topK() },
    ONNXOperator("CumSum", since: 11, inputs: 2...2, .float, "constant axis") {
      (node) throws(QMError) in try node.cumulativeSum()
    },
    ONNXOperator("Range", since: 11, inputs: 3...3, nil, "known before the run") {
      (node) throws(QMError) in try node.range()
    },
    ONNXOperator("Size", inputs: 1...1, .move) { (node) throws(QMError) in try node.size() },
    ONNXOperator("OneHot", since: 9, inputs: 3...3, .move, "depth known before the run") {
      (node) throws(QMError) in try node.oneHot()
    },
    ONNXOperator("Trilu", since: 14, inputs: 1...2, .move) { (node) throws(QMError) in
      try node.trilu()
    },

    // Pooling
    ONNXOperator("MaxPool", inputs: 1...1, .integer, "Indices only with a fixed shape") {
      (node) throws(QMError) in try node.pooling(.maximum)
    },
    ONNXOperator("AveragePool", inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.averagePooling()
    },
    ONNXOperator("GlobalAveragePool", inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.globalPooling(.mean)
    },
    ONNXOperator("GlobalMaxPool", inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.globalPooling(.maximum)
    },

    // Reduction
    reduction("ReduceMean", .mean, axesAreInputSince: 18),
    reduction("ReduceSum", .sum, axesAreInputSince: 13),
    reduction("ReduceMax", .maximum, axesAreInputSince: 18),
    reduction("ReduceMin", .minimum, axesAreInputSince: 18),
    reduction("ReduceProd", .product, axesAreInputSince: 18),
    reduction("ReduceL1", .sumOfMagnitudes, axesAreInputSince: 18),
    reduction("ReduceL2", .norm, axesAreInputSince: 18),
    reduction("ReduceSumSquare", .sumOfSquares, axesAreInputSince: 18),
    reduction("ReduceLogSum", .logarithmOfSum, axesAreInputSince: 18),
    reduction("ReduceLogSumExp", .logarithmOfSumOfExponentials, axesAreInputSince: 18),

    // Normalization
    ONNXOperator("BatchNormalization", inputs: 5...5, .float, "in inference only") {
      (node) throws(QMError) in try node.batchNormalization()
    },
    ONNXOperator("LayerNormalization", since: 17, inputs: 2...3, .integer) {
      (node) throws(QMError) in try node.layerNormalization()
    },
    ONNXOperator("InstanceNormalization", inputs: 3...3, .integer) { (node) throws(QMError) in
      try node.instanceNormalization()
    },
    ONNXOperator("GroupNormalization", since: 18, inputs: 3...3, .integer) {
      (node) throws(QMError) in try node.groupNormalization()
    },
    ONNXOperator("LpNormalization", inputs: 1...1, .float) { (node) throws(QMError) in
      try node.lpNormalization()
    },

    // Resize
    ONNXOperator(
      "Resize", since: 10, inputs: 1...4, .move, "in float32 unless mode is nearest"
    ) {
      (node) throws(QMError) in try node.resize()
    },
    ONNXOperator("Upsample", inputs: 1...2, .move, "in float32 unless mode is nearest") {
      (node) throws(QMError) in try node.upsample()
    },
    ONNXOperator("DepthToSpace", inputs: 1...1, .move) { (node) throws(QMError) in
      try node.depthToSpace()
    },
    ONNXOperator("SpaceToDepth", inputs: 1...1, .move) { (node) throws(QMError) in
      try node.spaceToDepth()
    },

    // Softmax
    ONNXOperator("Softmax", inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.softmax(.softmax)
    },
    ONNXOperator("LogSoftmax", inputs: 1...1, .integer) { (node) throws(QMError) in
      try node.softmax(.logSoftmax)
    },

    // Layout
    ONNXOperator("Reshape", inputs: 2...2, .move) { (node) throws(QMError) in try node.reshape() },
    ONNXOperator("Flatten", inputs: 1...1, .move) { (node) throws(QMError) in try node.flatten() },
    ONNXOperator(
      "Squeeze", inputs: 1...2, .move,
      "constant axes; dynamic axes stay without them"
    ) { (node) throws(QMError) in try node.squeeze() },
    ONNXOperator("Unsqueeze", inputs: 1...2, .move, "constant axes") { (node) throws(QMError) in
      try node.unsqueeze()
    },
    ONNXOperator("Transpose", inputs: 1...1, .move) { (node) throws(QMError) in
      try node.transpose()
    },
    ONNXOperator("Concat", inputs: 1...many, .move) { (node) throws(QMError) in
      try node.concatenate()
    },
    ONNXOperator("Split", inputs: 1...2, .move, "constant sizes") { (node) throws(QMError) in
      try node.split()
    },
    ONNXOperator("Slice", inputs: 1...5, .move) { (node) throws(QMError) in try node.slice() },
    ONNXOperator("Pad", inputs: 1...4, .move) { (node) throws(QMError) in try node.pad() },
    ONNXOperator("Gather", inputs: 2...2, .move) { (node) throws(QMError) in try node.gather() },
    ONNXOperator("GatherElements", since: 11, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.gatherElements()
    },
    ONNXOperator("GatherND", since: 11, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.gatherND()
    },
    ONNXOperator("Scatter", since: 9, inputs: 3...3, .move) { (node) throws(QMError) in
      try node.scatterElements()
    },
    ONNXOperator("ScatterElements", since: 11, inputs: 3...3, .move) { (node) throws(QMError) in
      try node.scatterElements()
    },
    ONNXOperator("ScatterND", since: 11, inputs: 3...3, .move) { (node) throws(QMError) in
      try node.scatterND()
    },
    ONNXOperator("NonZero", since: 9, inputs: 1...1, nil, "constants only") {
      (node) throws(QMError) in try node.nonZero()
    },
    ONNXOperator("If", inputs: 1...1, .move, "both branches run if data decides") {
      (node) throws(QMError) in try node.condition()
    },
    ONNXOperator(
      "Loop", since: 1, inputs: 2...many, .float,
      "recurrent layers as such; up to 1024 known: as nodes"
    ) { (node) throws(QMError) in try node.loop() },
    ONNXOperator(
      "Scan", since: 9, inputs: 1...many, .float,
      "recurrent layers as such; up to 1024 known: as nodes"
    ) { (node) throws(QMError) in try node.scan() },
    ONNXOperator("Expand", since: 8, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.expand()
    },
    ONNXOperator("Tile", inputs: 2...2, .move) { (node) throws(QMError) in try node.tile() },
    ONNXOperator("Shape", inputs: 1...1, .move) { (node) throws(QMError) in try node.shape() },
    ONNXOperator(
      "ConstantOfShape", since: 9, inputs: 1...1, nil, "data movement if the shape is computed"
    ) { (node) throws(QMError) in
      try node.constantOfShape()
    },
    ONNXOperator("Constant", inputs: 0...0, nil, "numbers only") { (node) throws(QMError) in
      try node.constant()
    },
    ONNXOperator("Identity", inputs: 1...1, nil) { (node) throws(QMError) in
      try node.finish([node.raw(0)])
    },
    ONNXOperator("Dropout", inputs: 1...3, nil, "in inference only") { (node) throws(QMError) in
      try node.dropout()
    },

    // Sequences
    sequence("SequenceConstruct", inputs: 1...many) { (node) throws(QMError) in
      try node.sequenceConstruct()
    },
    sequence("SequenceEmpty", inputs: 0...0) { (node) throws(QMError) in
      try node.sequenceConstruct()
    },
    sequence("SequenceAt", inputs: 2...2) { (node) throws(QMError) in try node.sequenceAt() },
    sequence("SequenceInsert", inputs: 2...3) { (node) throws(QMError) in
      try node.sequenceInsert()
    },
    sequence("SequenceErase", inputs: 1...2) { (node) throws(QMError) in
      try node.sequenceErase()
    },
    sequence("SequenceLength", inputs: 1...1) { (node) throws(QMError) in
      try node.sequenceLength()
    },
    sequence("SplitToSequence", inputs: 1...2, .move) { (node) throws(QMError) in
      try node.splitToSequence()
    },
    sequence("ConcatFromSequence", inputs: 1...1, .move) { (node) throws(QMError) in
      try node.concatFromSequence()
    },
    ONNXOperator("Optional", since: 15, inputs: 1...1, nil) { (node) throws(QMError) in
      try node.optionalElement()
    },
    ONNXOperator("OptionalGetElement", since: 15, inputs: 1...1, nil) { (node) throws(QMError) in
      try node.optionalElement()
    },
    ONNXOperator("OptionalHasElement", since: 15, inputs: 0...1, nil) { (node) throws(QMError) in
      try node.optionalHasElement()
    },
  ]
}

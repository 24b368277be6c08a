import QMTensor

/// The steps from the accumulator of a product to the stored element, in this order:
///
///     y = Float(accumulator) · multiplier[c]         (operands that are codes)
///     y = Σ Float(accumulator[g]) · multiplier[c, g] over the groups g in order, starting with +0
///                                                    (weights with scales per group)
///     y = y + bias[c]                                (a float32 bias)
///     y = y + residual                               (dequantized if it holds codes)
///     y = function(y)
///     y = secondFunction(y)
///     output = y, or clamp(roundToNearestEven(y · (1 / scale)) + zeroPoint) as int8 or int16
///
/// Each step is one IEEE operation in float32; none is fused. An int32 bias is added to the
/// accumulator before the first step, modulo 2³². NaN is stored as the bits 0x7FC00000.
public struct Epilogue: Hashable, Sendable {
  /// nil leaves the number unchanged.
  public var function: UnaryFunction?
  /// Applied after ``function``; nil leaves the number unchanged.
  public var secondFunction: UnaryFunction?
  /// How the result is stored.
  public var output: OutputEncoding

  /// Without arguments: no functions, float32 output.
  public init(
    function: UnaryFunction? = nil, secondFunction: UnaryFunction? = nil,
    output: OutputEncoding = .float32
  ) {
    self.function = function
    self.secondFunction = secondFunction
    self.output = output
  }

  mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("function", &function)
    try visitor.visit("second function", &secondFunction)
    try visitor.visit("output", &output)
  }

  /// The functions that are present, in order.
  public var functions: [UnaryFunction] { [function, secondFunction].compactMap { $0 } }
}

/// Positions of the inputs of a convolution (input, filter) or a matrix product (left, right).
public enum ProductOperand {
  /// float32; int8 codes with fixed or dynamic quantization; or int16 codes with fixed quantization
  /// and zero point 0.
  public static let input = 0
  /// float32; int8 codes with weights quantization (a constant); or, in a matrix product, int8
  /// codes with fixed quantization.
  public static let weights = 1
  /// Optional, one number per output channel: int32 in units of input scale · weight scale (fixed
  /// quantization), or float32.
  public static let bias = 2
  /// float32, present exactly if the weights have weights quantization: one scale, one per output
  /// channel, or one per group, in the shape of ``Granularity/scaleShape(of:)``.
  public static let weightScales = 3
  /// float32 `[…, 2]`, present exactly if the input's quantization is dynamic: scale and zero
  /// point of each row or sample.
  public static let inputParameters = 4
  /// Optional, with the shape of the output: float32, or int8 codes with fixed quantization.
  public static let residual = 5
}

extension ProductOperand {
  static let count = 6

  /// Codes times constant weights, or codes times another activation.
  /// - Parameter storing: returns the product that stores its result in an encoding.
  static func integerForm(
    of operands: [Operand?], weights: [WeightOperand],
    storing: @escaping @Sendable (OutputEncoding) -> Operation
  ) -> IntegerForm? {
    guard operands.count > ProductOperand.weights,
      let right = operands[ProductOperand.weights]
    else { return nil }
    if let constant = right.constant {
      guard constant.elementType == .float32, !weights.isEmpty else { return nil }
    }
    var positions = [ProductOperand.input, ProductOperand.weights]
    if operands.count > residual, operands[residual] != nil { positions.append(residual) }
    return IntegerForm(operands: positions, result: .encoded(storing))
  }

  static func integerSum(_ layout: IntegerSum.Layout) -> IntegerSum {
    IntegerSum(input: input, weights: weights, scales: weightScales, bias: bias, layout: layout)
  }
}

/// The type rule that convolution and matrix product share.
struct ProductRule {
  let operation: String
  /// Axis of the output channels in the weights.
  let channelAxis: Int
  /// Number of output channels, from the weights.
  let channels: Shape.Axis
  /// Number of leading axes of the input over which dynamic quantization has its own parameters.
  let parameterAxes: Int
  /// Whether the weights may be activations: codes with fixed quantization.
  let takesActivationsAsWeights: Bool
  /// Axis of the weights along which groups may share scales; nil if they may not.
  let groupAxis: Int?

  /// The output's type.
  /// - Parameter shape: shape of the output.
  /// - Throws: `malformed` if operands contradict each other; `unsupported` if they are consistent
  ///   but this version cannot compute them.
  func outputType(for operands: [Operand?], shape: Shape, epilogue: Epilogue) throws(QMError)
    -> ValueType
  {
    guard operands.count <= ProductOperand.count else {
      throw .malformed(
        "\(operation) has at most \(ProductOperand.count) inputs, found \(operands.count)")
    }
    let isInteger = try checkFactors(operands)
    try checkScales(operands)
    try checkParameters(operands)
    try checkBias(operands, isInteger: isInteger)
    try checkResidual(operands, shape: shape)
    try epilogue.output.check()
    switch epilogue.output.elementType {
    case .float32, .int8, .int16: break
    case let other: throw .unsupported("\(operation) stores float32, int8 or int16, found \(other)")
    }
    return ValueType(epilogue.output.elementType, shape, epilogue.output.quantization)
  }

  private func type(_ index: Int, of operands: [Operand?]) -> ValueType? {
    index < operands.count ? operands[index]?.type : nil
  }

  /// - Returns: whether the factors are codes.
  private func checkFactors(_ operands: [Operand?]) throws(QMError) -> Bool {
    guard let input = type(ProductOperand.input, of: operands),
      let weights = type(ProductOperand.weights, of: operands)
    else { throw .malformed("\(operation) needs two factors, found \(operands.count) inputs") }
    switch (input.elementType, input.quantization, weights.elementType, weights.quantization) {
    case (.float32, .none, .float32, .none): return false
    case (.int8, .fixed(let scale, let zeroPoint), .int8, let right):
      try QuantizationParameters(.int8, scale: scale, zeroPoint: zeroPoint).check()
      try checkWeights(right)
      return true
    case (.int16, .fixed(let scale, 0), .int8, .weights):
      try QuantizationParameters(.int16, scale: scale, zeroPoint: 0).check()
      try checkWeights(weights.quantization)
      return true
    case (.int8, .dynamic(let axes), .int8, let right):
      guard axes == parameterAxes || axes == 0 else {
        throw .malformed(
          "\(operation) takes dynamic quantization over \(parameterAxes) leading axes of \(input.shape) or none, found \(axes)"
        )
      }
      try checkWeights(right)
      return true
    default:
      throw .malformed(
        "\(operation) multiplies float32 by float32, int8 codes by int8 codes, or int16 codes with zero point 0 by weights, found \(input) and \(weights)"
      )
    }
  }

  private func checkWeights(_ quantization: Quantization) throws(QMError) {
    switch quantization {
    case .weights(_, .perTensor): break
    case .weights(_, .perChannel(let axis)):
      guard axis == channelAxis else {
        throw .malformed(
          "\(operation) takes one scale per output channel (axis \(channelAxis) of the weights), found scales along axis \(axis)"
        )
      }
    case .weights(_, .perGroup(let axis, let size)):
      guard size >= 1 else {
        throw .malformed("\(operation) needs groups of at least 1 weight, found \(size)")
      }
      guard axis == groupAxis else {
        throw .unsupported(
          groupAxis.map {
            "\(operation) takes scales per group along axis \($0) of the weights, found axis \(axis)"
          } ?? "\(operation) of this form takes no weights with scales per group")
      }
    case .fixed(let scale, let zeroPoint) where takesActivationsAsWeights:
      try QuantizationParameters(.int8, scale: scale, zeroPoint: zeroPoint).check()
    case .none, .fixed, .dynamic:
      throw .malformed(
        "\(operation) of int8 codes needs weights quantization, found \(quantization)")
    }
  }

  private func checkScales(_ operands: [Operand?]) throws(QMError) {
    let scales = type(ProductOperand.weightScales, of: operands)
    guard
      case .weights(_, let granularity) = type(ProductOperand.weights, of: operands)?.quantization
    else {
      guard scales == nil else {
        throw .malformed("\(operation) has weight scales, but no weights quantization")
      }
      return
    }
    guard let scales else {
      throw .malformed("\(operation) of weight codes needs their scales (input 3)")
    }
    var expected = Shape([granularity == .perTensor ? Shape.Axis.fixed(1) : channels])
    if case .perGroup = granularity,
      let weights = type(ProductOperand.weights, of: operands)
    {
      expected = try granularity.scaleShape(of: weights.shape)
    }
    try check(scales, "weight scales", [.float32], shape: expected)
  }

  private func checkParameters(_ operands: [Operand?]) throws(QMError) {
    let parameters = type(ProductOperand.inputParameters, of: operands)
    guard let input = type(ProductOperand.input, of: operands),
      case .dynamic(let axes) = input.quantization
    else {
      guard parameters == nil else {
        throw .malformed("\(operation) has input parameters, but no dynamically quantized input")
      }
      return
    }
    guard let parameters else {
      throw .malformed("\(operation) of a dynamically quantized input needs parameters (input 4)")
    }
    let expected = Shape(Array(input.shape.axes.prefix(axes)) + [2])
    guard parameters.elementType == .float32, parameters.quantization == .none,
      Self.agree(parameters.shape, expected)
    else {
      throw .malformed(
        "\(operation) needs input parameters float32\(expected), found \(parameters)")
    }
  }

  private func checkBias(_ operands: [Operand?], isInteger: Bool) throws(QMError) {
    guard let bias = type(ProductOperand.bias, of: operands) else { return }
    if bias.elementType == .int32 {
      if case .weights(_, .perGroup) = type(ProductOperand.weights, of: operands)?.quantization {
        throw .malformed("\(operation) with scales per group takes a float32 bias, found \(bias)")
      }
      guard isInteger, case .fixed = type(ProductOperand.input, of: operands)?.quantization else {
        throw .malformed(
          "\(operation) takes an int32 bias only with an input of fixed quantization; use float32"
        )
      }
    }
    try check(bias, "bias", [.float32, .int32], shape: Shape([channels]))
  }

  private func check(
    _ type: ValueType, _ name: String, _ elementTypes: [ElementType], shape: Shape
  ) throws(QMError) {
    guard elementTypes.contains(type.elementType), type.quantization == .none,
      Self.agree(type.shape, shape)
    else {
      let types = elementTypes.map(\.description).joined(separator: " or ")
      throw .malformed("\(operation) needs \(name) \(types)\(shape), found \(type)")
    }
  }

  private func checkResidual(_ operands: [Operand?], shape: Shape) throws(QMError) {
    guard let residual = type(ProductOperand.residual, of: operands) else { return }
    switch (residual.elementType, residual.quantization) {
    case (.float32, .none): break
    case (.int8, .fixed(let scale, let zeroPoint)):
      try QuantizationParameters(.int8, scale: scale, zeroPoint: zeroPoint).check()
    default:
      throw .malformed(
        "\(operation) adds float32, or int8 codes with fixed quantization, found \(residual)")
    }
    guard Self.agree(residual.shape, shape) else {
      throw .malformed("\(operation) gives \(shape), but its residual has shape \(residual.shape)")
    }
  }

  /// Whether the shapes can be equal: they have one rank, and no two known extents differ.
  static func agree(_ left: Shape, _ right: Shape) -> Bool {
    left.rank == right.rank
      && zip(left.axes, right.axes).allSatisfy { (a, b) in
        guard let a = a.extent, let b = b.extent else { return true }
        return a == b
      }
  }
}

/// The epilogue of the reference loops: from an accumulator to the stored element.
struct ReferenceEpilogue {
  private let epilogue: Epilogue
  private let input: TensorView
  private let weights: TensorView
  private let bias: TensorView?
  private let weightScales: TensorView?
  private let inputParameters: TensorView?
  private let residual: TensorView?
  private let output: TensorView

  init(_ epilogue: Epilogue, _ inputs: [TensorView?], _ output: TensorView) {
    func operand(_ index: Int) -> TensorView? { index < inputs.count ? inputs[index] : nil }
    self.epilogue = epilogue
    self.output = output
    input = operand(ProductOperand.input)!
    weights = operand(ProductOperand.weights)!
    bias = operand(ProductOperand.bias)
    weightScales = operand(ProductOperand.weightScales)
    inputParameters = operand(ProductOperand.inputParameters)
    residual = operand(ProductOperand.residual)
  }

  var isInteger: Bool { input.elementType != .float32 }

  /// The zero point of the input in row or sample `row`.
  func inputZeroPoint(row: Int) -> Int32 {
    switch input.quantization {
    case .fixed(_, let zeroPoint): return zeroPoint
    case .dynamic(let axes):
      return QMOperations.zeroPoint(
        fromParameter: inputParameters!.elements(as: Float.self)[axes == 0 ? 1 : 2 * row + 1])
    case .none, .weights: return 0
    }
  }

  /// The zero point of the weights.
  var weightsZeroPoint: Int32 {
    if case .fixed(_, let zeroPoint) = weights.quantization { zeroPoint } else { 0 }
  }

  /// The scale of each weight; nil unless scales are per group.
  var groupScales: GroupScales? { GroupScales(weights.quantization, shape: weights.shape) }

  private func inputScale(row: Int) -> Float {
    switch input.quantization {
    case .fixed(let scale, _): scale
    case .dynamic(axes: 0): inputParameters!.elements(as: Float.self)[0]
    default: inputParameters!.elements(as: Float.self)[2 * row]
    }
  }

  /// Input scale · weight scale, with one rounding.
  private func multiplier(row: Int, channel: Int) -> Float {
    if case .fixed(let scale, _) = weights.quantization { return inputScale(row: row) * scale }
    return multiplier(row: row, scale: weightScales!.elementCount == 1 ? 0 : channel)
  }

  /// Input scale · the weight scale at `index`, with one rounding.
  func multiplier(row: Int, scale index: Int) -> Float {
    inputScale(row: row) * weightScales!.elements(as: Float.self)[index]
  }

  /// Finishes an integer accumulator. The addition is modulo 2³²; ``AccumulatorBound`` proves that
  /// nothing wraps.
  func finish(_ accumulator: Int32, row: Int, channel: Int, at index: Int) {
    var sum = accumulator
    if let bias, bias.elementType == .int32 { sum &+= bias.elements(as: Int32.self)[channel] }
    finish(Float(sum) * multiplier(row: row, channel: channel), channel: channel, at: index)
  }

  /// Finishes a float32 accumulator, or the number of an integer one.
  func finish(_ number: Float, channel: Int, at index: Int) {
    var y = number
    if let bias, bias.elementType == .float32 { y += bias.elements(as: Float.self)[channel] }
    if let residual { y += residual.number(at: index) }
    for function in epilogue.functions { y = function(y) }
    output.store(canonical(y), at: index)
  }
}

import QMTensor

/// A function of one number. Definitions: `Functions.swift`.
public enum UnaryFunction: Hashable, Sendable {
  case relu
  case clip(minimum: Float, maximum: Float)
  case leakyRelu(slope: Float)
  case thresholdedRelu(threshold: Float)
  case elu(alpha: Float)
  case selu(alpha: Float, gamma: Float)
  case celu(alpha: Float)
  case hardSigmoid(alpha: Float, beta: Float)
  case hardSwish
  case sigmoid
  case silu
  case tanh
  case erf
  /// `x/2 · (1 + erf(x/√2))`
  case gelu
  /// `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`
  case geluTanh
  case softplus
  case softsign
  case mish
  case exponential
  case logarithm
  case squareRoot
  case reciprocal
  case square
  case absolute
  case negate
  case sign
  case floor
  case ceiling
  /// To the nearest integer, halves to even.
  case round
  case sine
  case cosine
  case tangent
  /// `x · scale + offset`, two roundings.
  case affine(scale: Float, offset: Float)
}

/// `output[i] = function(input[i])`. float32, or int8/int16 codes with fixed quantization
/// (dequantized, computed in float32, encoded by `output`).
/// `absolute`, `negate` and `sign` also on int32 and int64, which ignore `output`.
public struct Unary: OperationProtocol {
  public static let name = "Unary"
  public var function: UnaryFunction
  public var output: OutputEncoding

  public init(_ function: UnaryFunction, output: OutputEncoding = .float32) {
    self.function = function
    self.output = output
  }
}

public enum BinaryFunction: UInt8, Hashable, Sendable, CaseIterable {
  case add = 0
  case subtract = 1
  case multiply = 2
  case divide = 3
  case minimum = 4
  case maximum = 5
  case power = 6
  case remainder = 7
}

/// `output = function(left, right)` with NumPy broadcasting. float32 or codes on either side
/// (each dequantized, computed in float32, then `then`, then encoded by `output`); int32 and int64
/// with two's complement wrapping, which ignore `then` and `output`.
public struct Binary: OperationProtocol {
  public static let name = "Binary"
  public var function: BinaryFunction
  /// A function of the result, before the one rounding.
  public var then: UnaryFunction?
  public var output: OutputEncoding

  public init(
    _ function: BinaryFunction, then: UnaryFunction? = nil, output: OutputEncoding = .float32
  ) {
    self.function = function
    self.then = then
    self.output = output
  }
}

/// int8 codes → int8 codes by a table. Inputs: codes with fixed quantization; 256 int8 entries,
/// of code −128 first.
public struct Table: OperationProtocol {
  public static let name = "Table"
  /// Meaning of the entries.
  public var scale: Float
  public var zeroPoint: Int32

  public init(scale: Float, zeroPoint: Int32) {
    self.scale = scale
    self.zeroPoint = zeroPoint
  }
}

/// Another element type for the same numbers. Float to integer truncates toward zero and
/// saturates; NaN becomes 0; to bool: unequal 0.
public struct Cast: OperationProtocol {
  public static let name = "Cast"
  public var elementType: ElementType

  public init(to elementType: ElementType) { self.elementType = elementType }
}

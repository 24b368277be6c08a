import QMTensor

/// What an operation is told about one of its inputs.
public struct Operand: Sendable {
  public var type: ValueType
  /// The elements, where they are known before the run: weights, and shapes computed from
  /// extents that are known.
  public var constant: Tensor?

  public init(_ type: ValueType, constant: Tensor? = nil) {
    self.type = type
    self.constant = constant
  }
}

/// An operation: a struct whose stored properties are its attributes.
///
/// Inputs and outputs are positional; an optional input that is absent is nil. Whether the
/// operation computes in float or in integers follows from the types of its operands.
public protocol OperationProtocol: OperationFacts, Hashable, Sendable {
  /// The field's name of the operation, for people.
  static var name: String { get }

  /// Any operation of the type, for a visitor that sets every attribute.
  static var placeholder: Self { get }

  /// Shows every attribute to a visitor, in the order in which files hold them. The only list of
  /// the attributes: how they are read, written, checked and described follows from it.
  /// - Throws: what the visitor throws; `malformed` if attributes that it set contradict each other.
  mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError)

  /// The types of the outputs. Free axes are allowed; where they decide, the result is free too.
  /// - Throws: `malformed` if the operands do not fit each other, with both sides named.
  func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType]

  /// The obvious loops: these *define* the operation, element by element and bit by bit.
  /// All shapes are concrete; the outputs have the types that `outputTypes` gave.
  /// - Throws: `invalidInput` where data, an index say, contradicts the shapes.
  func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError)

  /// Constants rearranged for the kernels of this machine, made once when a model is loaded;
  /// nil where the kernels read the constants as they are.
  func pack(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights?

  /// Positions of inputs that no run reads once they are packed, whatever its extents.
  func packedInputs(_ operands: [Operand?]) -> [Int]

  /// The fast way to compute the same bits on concrete shapes;
  /// nil where the reference loops are the only way yet.
  func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel?

  /// The same, and `Transpose(permutation)` of the only output behind it, in one: the output with
  /// its axes in the operation's own order is never stored.
  /// nil where that is no gain.
  /// - Parameter outputs: with their axes in the operation's own order.
  func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet,
    transposing permutation: [Int]
  ) throws(QMError) -> Kernel?
}

extension OperationProtocol {
  public func pack(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights? {
    nil
  }

  public func packedInputs(_ operands: [Operand?]) -> [Int] { [] }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    nil
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet,
    transposing permutation: [Int]
  ) throws(QMError) -> Kernel? {
    nil
  }

  /// The type of input `index`.
  /// - Throws: `malformed` if it is absent.
  func required(_ index: Int, of operands: [Operand?]) throws(QMError) -> Operand {
    guard index < operands.count, let operand = operands[index] else {
      throw .malformed("input \(index) is missing")
    }
    return operand
  }
}

/// The memory of one operand during one run.
public struct TensorView {
  public let elementType: ElementType
  public let shape: [Int]
  public let quantization: Quantization
  public let base: UnsafeMutableRawPointer

  public init(
    _ elementType: ElementType, _ shape: [Int], _ quantization: Quantization = .none,
    base: UnsafeMutableRawPointer
  ) {
    self.elementType = elementType
    self.shape = shape
    self.quantization = quantization
    self.base = base
  }

  public var elementCount: Int { shape.reduce(1, *) }
  public var byteCount: Int { elementCount * elementType.byteCount }

  public func elements<Element: TensorElement>(as: Element.Type = Element.self)
    -> UnsafeMutableBufferPointer<Element>
  {
    precondition(
      elementType == Element.elementType, "a \(elementType) operand read as \(Element.self)")
    return UnsafeMutableBufferPointer(
      start: base.assumingMemoryBound(to: Element.self), count: elementCount)
  }
}

/// How an operation that rounds stores its result.
public enum OutputEncoding: Hashable, Sendable {
  case float32
  /// `int8`, `uint8` or `int16` codes on one affine grid; products store no `uint8`.
  case quantized(ElementType, scale: Float, zeroPoint: Int32)

  public var elementType: ElementType {
    switch self {
    case .float32: .float32
    case .quantized(let elementType, _, _): elementType
    }
  }

  public var quantization: Quantization {
    switch self {
    case .float32: .none
    case .quantized(_, let scale, let zeroPoint): .fixed(scale: scale, zeroPoint: zeroPoint)
    }
  }
}

/// Order of the axes of an image-like tensor. N is the batch, C the channels.
public enum ChannelOrder: UInt8, Hashable, Sendable, CaseIterable {
  /// N, C, then the spatial axes: how ONNX has it.
  case channelsFirst = 0
  /// N, the spatial axes, then C: what the kernels read.
  case channelsLast = 1
}

/// Every operation there is. Closed: a switch over it lists what a new case still needs.
public enum Operation: Hashable, Sendable {
  // Products.
  case convolution(Convolution)
  case matrixMultiply(MatrixMultiply)
  case recurrent(Recurrent)
  // Element-wise.
  case unary(Unary)
  case binary(Binary)
  case table(Table)
  case cast(Cast)
  case comparison(Compare)
  case logic(Logic)
  case isNaNOrInf(IsNaNOrInf)
  case select(Select)
  // Over windows and axes.
  case pooling(Pooling)
  case reduction(Reduction)
  case softmax(Softmax)
  case batchNormalization(BatchNormalization)
  case layerNormalization(LayerNormalization)
  case argMinMax(ArgMinMax)
  case topK(TopK)
  case cumulativeSum(CumulativeSum)
  case resize(Resize)
  case groupNormalization(GroupNormalization)
  // Moving elements.
  case identity(Identity)
  case reshape(Reshape)
  case flatten(Flatten)
  case squeeze(Squeeze)
  case unsqueeze(Unsqueeze)
  case transpose(Transpose)
  case concatenate(Concatenate)
  case split(Split)
  case slice(Slice)
  case pad(Pad)
  case gather(Gather)
  case expand(Expand)
  case tile(Tile)
  case shape(ShapeOperation)
  case fill(Fill)
  case range(RangeOperation)
  case oneHot(OneHot)
  case trilu(Trilu)
  case gatherElements(GatherElements)
  case gatherND(GatherND)
  case scatterElements(ScatterElements)
  case scatterND(ScatterND)
  case nonZero(NonZero)
  case depthToSpace(DepthToSpace)
  case spaceToDepth(SpaceToDepth)
  case `if`(If)
  // Between real numbers and codes.
  case quantize(Quantize)
  case dynamicQuantize(DynamicQuantize)
  case dequantize(Dequantize)

  /// The operation itself.
  public var body: any OperationProtocol {
    switch self {
    case .convolution(let operation): operation
    case .matrixMultiply(let operation): operation
    case .recurrent(let operation): operation
    case .unary(let operation): operation
    case .binary(let operation): operation
    case .table(let operation): operation
    case .cast(let operation): operation
    case .comparison(let operation): operation
    case .logic(let operation): operation
    case .isNaNOrInf(let operation): operation
    case .select(let operation): operation
    case .pooling(let operation): operation
    case .reduction(let operation): operation
    case .softmax(let operation): operation
    case .batchNormalization(let operation): operation
    case .layerNormalization(let operation): operation
    case .argMinMax(let operation): operation
    case .topK(let operation): operation
    case .cumulativeSum(let operation): operation
    case .resize(let operation): operation
    case .groupNormalization(let operation): operation
    case .identity(let operation): operation
    case .reshape(let operation): operation
    case .flatten(let operation): operation
    case .squeeze(let operation): operation
    case .unsqueeze(let operation): operation
    case .transpose(let operation): operation
    case .concatenate(let operation): operation
    case .split(let operation): operation
    case .slice(let operation): operation
    case .pad(let operation): operation
    case .gather(let operation): operation
    case .expand(let operation): operation
    case .tile(let operation): operation
    case .shape(let operation): operation
    case .fill(let operation): operation
    case .range(let operation): operation
    case .oneHot(let operation): operation
    case .trilu(let operation): operation
    case .gatherElements(let operation): operation
    case .gatherND(let operation): operation
    case .scatterElements(let operation): operation
    case .scatterND(let operation): operation
    case .nonZero(let operation): operation
    case .depthToSpace(let operation): operation
    case .spaceToDepth(let operation): operation
    case .if(let operation): operation
    case .quantize(let operation): operation
    case .dynamicQuantize(let operation): operation
    case .dequantize(let operation): operation
    }
  }

  public var name: String { type(of: body).name }
}

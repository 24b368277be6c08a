import QMTensor

/// What is known about one input of an operation before a run.
public struct Operand: Sendable {
  /// Element type, shape and quantization.
  public var type: ValueType
  /// The elements, if they are known before the run: weights, and shapes computed from known
  /// extents.
  public var constant: Tensor?

  /// - Parameter constant: the elements; nil if only a run computes them.
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
  /// The usual name of the operation, for reports and messages.
  static var name: String { get }

  /// An operation with arbitrary attributes, for a visitor that then sets all of them.
  static var placeholder: Self { get }

  /// Shows every attribute to a visitor, in the order in which files hold them. This is the only
  /// list of the attributes: reading, writing, checking and describing them follow from it.
  /// - Throws: errors of the visitor; `malformed` if the attributes that it set contradict each
  ///   other.
  mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError)

  /// The types of the outputs. Input axes may be dynamic; an output axis whose extent depends on a
  /// dynamic axis is dynamic too.
  /// - Throws: `malformed` if the operands contradict each other; the message names both sides.
  func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType]

  /// The reference loops. They *define* the operation, element by element and bit by bit.
  /// All shapes are concrete, and the outputs have the types that `outputTypes` returned.
  /// - Throws: `invalidInput` if the data contradicts the shapes, for example an index outside its
  ///   axis.
  func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError)

  /// Constants rearranged for the kernels of this machine. Called once, when a model is loaded.
  /// - Returns: nil if the kernels read the constants as they are.
  func pack(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights?

  /// What ``pack(_:for:_:)`` would give. Constants among the operands have their shapes, and any
  /// elements.
  /// - Returns: nil if it would return nil.
  func packedForm(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedForm?

  /// Positions of the constant inputs that no run reads once they are packed, for any input shape.
  func packedInputs(_ operands: [Operand?]) -> [Int]

  /// A fast kernel that computes the same bits on concrete shapes.
  /// - Returns: nil if only the reference loops exist.
  func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel?

  /// A kernel that also applies `Transpose(permutation)` to the only output, so that the output in
  /// the operation's own order of axes is never stored.
  /// - Parameter outputs: types before the transposition.
  /// - Returns: nil if this saves nothing.
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

  public func packedForm(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedForm? {
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

  /// The operand at position `index`.
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
  /// Type of each element.
  public let elementType: ElementType
  /// Extent of each axis.
  public let shape: [Int]
  /// How codes represent numbers; `.none` if the elements are no codes.
  public let quantization: Quantization
  /// Address of the first element.
  public let base: UnsafeMutableRawPointer

  /// - Parameter base: address of `byteCount` bytes that outlive the view.
  public init(
    _ elementType: ElementType, _ shape: [Int], _ quantization: Quantization = .none,
    base: UnsafeMutableRawPointer
  ) {
    self.elementType = elementType
    self.shape = shape
    self.quantization = quantization
    self.base = base
  }

  /// Number of elements.
  public var elementCount: Int { shape.reduce(1, *) }
  /// Bytes of all elements.
  public var byteCount: Int { elementCount * elementType.byteCount }

  /// The elements in row-major order. `Element` must be the view's element type.
  public func elements<Element: TensorElement>(as: Element.Type = Element.self)
    -> UnsafeMutableBufferPointer<Element>
  {
    precondition(
      elementType == Element.elementType, "a \(elementType) operand read as \(Element.self)")
    return UnsafeMutableBufferPointer(
      start: base.assumingMemoryBound(to: Element.self), count: elementCount)
  }
}

/// How an operation stores its float32 results.
public enum OutputEncoding: Hashable, Sendable {
  /// Unchanged.
  case float32
  /// As `int8`, `uint8` or `int16` codes with one scale and zero point; products do not store
  /// `uint8`.
  case quantized(ElementType, scale: Float, zeroPoint: Int32)

  /// Element type of the output.
  public var elementType: ElementType {
    switch self {
    case .float32: .float32
    case .quantized(let elementType, _, _): elementType
    }
  }

  /// Quantization of the output.
  public var quantization: Quantization {
    switch self {
    case .float32: .none
    case .quantized(_, let scale, let zeroPoint): .fixed(scale: scale, zeroPoint: zeroPoint)
    }
  }
}

/// Order of the axes of an image-like tensor. N is the batch, C the channels.
public enum ChannelOrder: UInt8, Hashable, Sendable, CaseIterable {
  /// N, C, then the spatial axes: the order of ONNX.
  case channelsFirst = 0
  /// N, the spatial axes, then C: the order that the kernels read.
  case channelsLast = 1
}

/// All operations. The enum is closed: the compiler reports every switch that lacks a new case.
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
  // Data movement.
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
  case loop(Loop)
  // Between float32 numbers and codes.
  case quantize(Quantize)
  case dynamicQuantize(DynamicQuantize)
  case dequantize(Dequantize)

  /// The operation with its attributes.
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
    case .loop(let operation): operation
    case .quantize(let operation): operation
    case .dynamicQuantize(let operation): operation
    case .dequantize(let operation): operation
    }
  }

  /// The usual name of the operation, for reports and messages.
  public var name: String { type(of: body).name }
}

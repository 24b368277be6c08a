import QMTensor

/// Converts elements to another element type; to the same type, it copies the bytes.
///
/// - Float to float rounds once, to nearest, ties to even; NaN becomes the type's positive quiet
///   NaN without payload.
/// - Float to integer truncates toward zero and saturates; NaN becomes 0.
/// - Integer to float rounds once; to float16 and bfloat16 it rounds to float32 first.
/// - Integer to integer keeps the low bits.
/// - Codes with fixed quantization are read as the integers that are stored.
/// - To bool: true if the element is not 0 (NaN is not). From bool: 0 or 1.
public struct Cast: FloatOperation {
  public static let name = "Cast"
  /// Element type of the output.
  public var elementType: ElementType

  /// - Parameter elementType: element type of the output.
  public init(to elementType: ElementType) { self.elementType = elementType }

  public static let placeholder = Cast(to: .float32)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("element type", &elementType)
  }
}

extension Cast {
  public var keepsName: Bool { true }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    ReorderedForm(.cast(self), [.reordered], of: operands)
  }
}

extension Cast {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    switch input.quantization {
    case .none, .fixed, .dynamic(axes: 0): break
    case .dynamic, .weights:
      throw .malformed(
        "\(Self.name) takes codes with one scale and zero point only, found \(input)")
    }
    return [ValueType(elementType, input.shape)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0]
    if input.elementType == output.elementType {
      output.base.copyMemory(from: input.base, byteCount: input.byteCount)
      return
    }
    for index in 0..<input.elementCount { output.store(input.element(at: index), at: index) }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    guard kernels != .reference else { return nil }
    guard input.elementType != elementType else {
      return try .copyingBytes(of: outputs[0], Self.name, kernels)
    }
    let count = try outputs[0].concreteShape().reduce(1, *)
    func from<Source: FixedWidthInteger & BitwiseCopyable & Sendable>(
      _: Source.Type
    ) -> Kernel.Body? {
      switch elementType {
      case .float32: { Self.convert($0, count) { (number: Source) in Float(number) } }
      case .int8:
        { Self.convert($0, count) { (number: Source) in Int8(truncatingIfNeeded: number) } }
      case .uint8:
        { Self.convert($0, count) { (number: Source) in UInt8(truncatingIfNeeded: number) } }
      case .int32:
        { Self.convert($0, count) { (number: Source) in Int32(truncatingIfNeeded: number) } }
      case .int64:
        { Self.convert($0, count) { (number: Source) in Int64(truncatingIfNeeded: number) } }
      case .bool: { Self.convert($0, count) { (number: Source) in number != 0 } }
      case .int16, .uint16, .uint32, .uint64, .float16, .bfloat16, .float64: nil
      }
    }
    // Read as UInt8, because a byte from a file may be neither 0 nor 1.
    func fromBool() -> Kernel.Body? {
      switch elementType {
      case .float32: { Self.convert($0, count) { (byte: UInt8) -> Float in byte == 0 ? 0 : 1 } }
      case .int8: { Self.convert($0, count) { (byte: UInt8) -> Int8 in byte == 0 ? 0 : 1 } }
      case .uint8: { Self.convert($0, count) { (byte: UInt8) -> UInt8 in byte == 0 ? 0 : 1 } }
      case .int32: { Self.convert($0, count) { (byte: UInt8) -> Int32 in byte == 0 ? 0 : 1 } }
      case .int64: { Self.convert($0, count) { (byte: UInt8) -> Int64 in byte == 0 ? 0 : 1 } }
      default: nil
      }
    }
    func fromFloat() -> Kernel.Body? {
      switch elementType {
      case .bool: { Self.convert($0, count) { (number: Float) in number != 0 } }
      case .int32:
        {
          Self.convert($0, count) { (number: Float) in
            Number.float(Double(number)).integer(as: Int32.self)
          }
        }
      case .int64:
        {
          Self.convert($0, count) { (number: Float) in
            Number.float(Double(number)).integer(as: Int64.self)
          }
        }
      case .float16: { Self.convert($0, count) { (number: Float) in number.float16Bits } }
      case .bfloat16: { Self.convert($0, count) { (number: Float) in number.bfloat16Bits } }
      default: nil
      }
    }
    let body: Kernel.Body? =
      switch input.elementType {
      case .int8: from(Int8.self)
      case .uint8: from(UInt8.self)
      case .int16: from(Int16.self)
      case .uint16: from(UInt16.self)
      case .int32: from(Int32.self)
      case .uint32: from(UInt32.self)
      case .int64: from(Int64.self)
      case .uint64: from(UInt64.self)
      case .bool: fromBool()
      case .float32: fromFloat()
      case .float16 where elementType == .float32:
        { Self.convert($0, count) { (bits: UInt16) in Float(float16Bits: bits) } }
      case .bfloat16 where elementType == .float32:
        { Self.convert($0, count) { (bits: UInt16) in Float(bfloat16Bits: bits) } }
      case .float16, .bfloat16, .float64: nil
      }
    return body.map { Kernel(name: Self.name, run: $0) }
  }

  @inline(__always)
  private static func convert<Source: BitwiseCopyable, Target: BitwiseCopyable>(
    _ memory: Kernel.Memory, _ count: Int, _ body: (Source) -> Target
  ) {
    let source = memory.inputs[0]!.assumingMemoryBound(to: Source.self)
    let target = memory.outputs[0]!.assumingMemoryBound(to: Target.self)
    forEachChunk(of: count, on: memory.threads) { start, count in
      for index in start..<(start + count) { target[index] = body(source[index]) }
    }
  }
}

/// The exact value of an element of any type.
private enum Number {
  case float(Double)
  case signed(Int64)
  case unsigned(UInt64)

  var float32: Float {
    switch self {
    case .float(let value): canonical(Float(value))
    case .signed(let value): Float(value)
    case .unsigned(let value): Float(value)
    }
  }

  var float64: Double {
    switch self {
    case .float(let value): value.isNaN ? .nan : value
    case .signed(let value): Double(value)
    case .unsigned(let value): Double(value)
    }
  }

  /// The number that is rounded to float16 or bfloat16: an integer is rounded to float32 first.
  var sourceOfFloat16: Double {
    if case .float(let value) = self { value } else { Double(float32) }
  }

  var isZero: Bool {
    switch self {
    case .float(let value): value == 0
    case .signed(let value): value == 0
    case .unsigned(let value): value == 0
    }
  }

  func integer<Integer: FixedWidthInteger>(as: Integer.Type) -> Integer {
    switch self {
    case .signed(let value): return Integer(truncatingIfNeeded: value)
    case .unsigned(let value): return Integer(truncatingIfNeeded: value)
    case .float(let value):
      if value.isNaN { return 0 }
      // The bounds are powers of two, exact in Double; `Integer.max` itself might not be.
      let whole = value.rounded(.towardZero)
      if whole < Double(Integer.min) { return .min }
      let bits = Integer.bitWidth - (Integer.isSigned ? 1 : 0)
      let beyond = Double(sign: .plus, exponent: bits, significand: 1)
      return whole < beyond ? Integer(whole) : .max
    }
  }
}

extension TensorView {
  fileprivate func element(at index: Int) -> Number {
    switch elementType {
    case .float32: .float(Double(load(index, as: Float.self)))
    case .float64: .float(load(index, as: Double.self))
    case .float16: .float(Double(float16Bits: load(index, as: UInt16.self)))
    case .bfloat16: .float(Double(bfloat16Bits: load(index, as: UInt16.self)))
    case .int8: .signed(Int64(load(index, as: Int8.self)))
    case .int16: .signed(Int64(load(index, as: Int16.self)))
    case .int32: .signed(Int64(load(index, as: Int32.self)))
    case .int64: .signed(load(index, as: Int64.self))
    case .uint8: .unsigned(UInt64(load(index, as: UInt8.self)))
    case .uint16: .unsigned(UInt64(load(index, as: UInt16.self)))
    case .uint32: .unsigned(UInt64(load(index, as: UInt32.self)))
    case .uint64: .unsigned(load(index, as: UInt64.self))
    // Read as UInt8, because a byte from a file may be neither 0 nor 1.
    case .bool: .unsigned(load(index, as: UInt8.self) == 0 ? 0 : 1)
    }
  }

  fileprivate func store(_ number: Number, at index: Int) {
    switch elementType {
    case .float32: store(element: number.float32, index)
    case .float64: store(element: number.float64, index)
    case .float16: store(element: number.sourceOfFloat16.float16Bits, index)
    case .bfloat16: store(element: number.sourceOfFloat16.bfloat16Bits, index)
    case .int8: store(element: number.integer(as: Int8.self), index)
    case .int16: store(element: number.integer(as: Int16.self), index)
    case .int32: store(element: number.integer(as: Int32.self), index)
    case .int64: store(element: number.integer(as: Int64.self), index)
    case .uint8: store(element: number.integer(as: UInt8.self), index)
    case .uint16: store(element: number.integer(as: UInt16.self), index)
    case .uint32: store(element: number.integer(as: UInt32.self), index)
    case .uint64: store(element: number.integer(as: UInt64.self), index)
    case .bool: store(element: UInt8(number.isZero ? 0 : 1), index)
    }
  }

  private func load<Element: BitwiseCopyable>(_ index: Int, as: Element.Type) -> Element {
    base.load(fromByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
  }

  private func store<Element: BitwiseCopyable>(element: Element, _ index: Int) {
    base.storeBytes(
      of: element, toByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
  }
}

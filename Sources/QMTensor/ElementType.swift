/// The type of one stored element. Raw values are written in `.qm` files and never change.
public enum ElementType: UInt8, Hashable, Sendable, CaseIterable {
  case float32 = 1
  case float16 = 2
  case int8 = 3
  case uint8 = 4
  case int16 = 5
  case int32 = 6
  case int64 = 7
  case bool = 8
  case float64 = 9
  case uint16 = 10
  case uint32 = 11
  case uint64 = 12
  case bfloat16 = 13

  /// Size of one element in memory, in bytes.
  public var byteCount: Int {
    switch self {
    case .int8, .uint8, .bool: 1
    case .float16, .bfloat16, .int16, .uint16: 2
    case .float32, .int32, .uint32: 4
    case .float64, .int64, .uint64: 8
    }
  }

  /// Whether the elements are floating-point numbers of any width.
  public var isFloatingPoint: Bool {
    switch self {
    case .float32, .float16, .float64, .bfloat16: true
    default: false
    }
  }

  /// Whether the elements are integers of any width; `bool` is not an integer type.
  public var isInteger: Bool { !isFloatingPoint && self != .bool }
}

extension ElementType: CustomStringConvertible {
  /// The name of the type, as NumPy writes it: `float32`.
  public var description: String {
    switch self {
    case .float32: "float32"
    case .float16: "float16"
    case .int8: "int8"
    case .uint8: "uint8"
    case .int16: "int16"
    case .int32: "int32"
    case .int64: "int64"
    case .bool: "bool"
    case .float64: "float64"
    case .uint16: "uint16"
    case .uint32: "uint32"
    case .uint64: "uint64"
    case .bfloat16: "bfloat16"
    }
  }
}

/// A Swift type whose memory layout is that of an ``ElementType``.
public protocol TensorElement: BitwiseCopyable, Sendable, Hashable {
  /// The element type of the same layout.
  static var elementType: ElementType { get }
}

extension Float: TensorElement {
  /// ``ElementType/float32``.
  public static var elementType: ElementType { .float32 }
}

extension Double: TensorElement {
  /// ``ElementType/float64``.
  public static var elementType: ElementType { .float64 }
}

extension Int8: TensorElement {
  /// ``ElementType/int8``.
  public static var elementType: ElementType { .int8 }
}

extension UInt8: TensorElement {
  /// ``ElementType/uint8``.
  public static var elementType: ElementType { .uint8 }
}

extension Int16: TensorElement {
  /// ``ElementType/int16``.
  public static var elementType: ElementType { .int16 }
}

extension UInt16: TensorElement {
  /// ``ElementType/uint16``.
  public static var elementType: ElementType { .uint16 }
}

extension Int32: TensorElement {
  /// ``ElementType/int32``.
  public static var elementType: ElementType { .int32 }
}

extension UInt32: TensorElement {
  /// ``ElementType/uint32``.
  public static var elementType: ElementType { .uint32 }
}

extension Int64: TensorElement {
  /// ``ElementType/int64``.
  public static var elementType: ElementType { .int64 }
}

extension UInt64: TensorElement {
  /// ``ElementType/uint64``.
  public static var elementType: ElementType { .uint64 }
}

extension Bool: TensorElement {
  /// ``ElementType/bool``.
  public static var elementType: ElementType { .bool }
}

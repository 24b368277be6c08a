#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A dense array in row-major order: a typed, shaped view of a ``Buffer``. Copies share the buffer.
/// The first element is aligned to its size.
///
/// ```swift
/// let image = try Tensor([1, 64], pixels)                // float32, from [Float]
/// let zeros = try Tensor(zeros: .int64, [2, 3])
/// let half = try image.converted(to: .float16)           // throws if a number does not fit
/// let numbers = image.elements(as: Float.self)           // a copy
/// let sum = image.withElements(as: Float.self) { $0.reduce(0, +) }  // without a copy
/// ```
///
/// A failed allocation is an error and does not end the process.
public struct Tensor: Sendable {
  /// Type of one element.
  public let elementType: ElementType
  /// The extent of each axis, outermost first; empty for a scalar.
  public let shape: [Int]
  /// The memory that holds the elements; other tensors may share it.
  public let buffer: Buffer
  /// Offset of the first element in ``buffer``, in bytes.
  public let byteOffset: Int

  /// A view of the elements from `byteOffset` on. If they are not aligned, as may happen in a file,
  /// the tensor is a copy.
  /// - Throws: `malformed` if an extent is negative, or if the elements overflow or exceed the
  ///   buffer; `outOfMemory`.
  public init(_ elementType: ElementType, _ shape: [Int], buffer: Buffer, byteOffset: Int = 0)
    throws(QMError)
  {
    guard let count = Shape.elementCount(of: shape) else {
      throw .malformed("shape \(shape) has a negative extent or too many elements")
    }
    let (size, overflow) = count.multipliedReportingOverflow(by: elementType.byteCount)
    guard !overflow, byteOffset >= 0, byteOffset <= buffer.count, size <= buffer.count - byteOffset
    else {
      throw .malformed(
        "\(elementType)\(shape) needs \(overflow ? "more than 2^63" : "\(size)") bytes, found \(buffer.count - byteOffset)"
      )
    }
    self.elementType = elementType
    self.shape = shape
    let start = buffer.base + byteOffset
    let isAligned = Int(bitPattern: start) % elementType.byteCount == 0
    self.buffer =
      try isAligned ? buffer : .copying(UnsafeRawBufferPointer(start: start, count: size))
    self.byteOffset = isAligned ? byteOffset : 0
  }

  /// A tensor of zeros.
  /// - Throws: `malformed` as ``byteCount(of:_:)``; `outOfMemory`.
  public init(zeros elementType: ElementType, _ shape: [Int]) throws(QMError) {
    let size = try Tensor.byteCount(of: elementType, shape)
    try self.init(elementType, shape, buffer: Buffer.allocate(byteCount: size))
  }

  /// A tensor from a copy of `elements`, in row-major order.
  /// - Throws: `invalidInput` if the number of elements is not the product of the extents;
  ///   `outOfMemory`.
  public init<Element: TensorElement>(_ shape: [Int], _ elements: [Element]) throws(QMError) {
    guard Shape.elementCount(of: shape) == elements.count else {
      throw .invalidInput("\(elements.count) elements do not fill shape \(shape)")
    }
    let buffer = try Buffer.allocate(byteCount: elements.count * MemoryLayout<Element>.stride)
    elements.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { memcpy(buffer.base, source, bytes.count) }
    }
    try self.init(Element.elementType, shape, buffer: buffer)
  }

  /// A tensor whose elements `body` writes; they are 0 at first. For large tensors such as weights:
  /// unlike that of a Swift array, a failed allocation is an error.
  /// - Throws: `malformed` as ``byteCount(of:_:)``; `outOfMemory`.
  public init<Element: TensorElement>(
    _ shape: [Int], as: Element.Type = Element.self,
    writing body: (UnsafeMutableBufferPointer<Element>) -> Void
  ) throws(QMError) {
    try self.init(zeros: Element.elementType, shape)
    let start = buffer.base.assumingMemoryBound(to: Element.self)
    body(UnsafeMutableBufferPointer(start: start, count: elementCount))
  }

  /// Memory that a tensor of this type and shape takes, in bytes.
  /// - Throws: `malformed` if an extent is negative or the size overflows.
  public static func byteCount(of elementType: ElementType, _ shape: [Int]) throws(QMError) -> Int {
    guard let count = Shape.elementCount(of: shape) else {
      throw .malformed("shape \(shape) has a negative extent or too many elements")
    }
    let (size, overflow) = count.multipliedReportingOverflow(by: elementType.byteCount)
    guard !overflow else { throw .malformed("shape \(shape) has too many elements") }
    return size
  }

  /// Product of the extents; 1 for a scalar.
  public var elementCount: Int { shape.reduce(1, *) }
  /// Memory that the elements take, in bytes.
  public var byteCount: Int { elementCount * elementType.byteCount }
  /// Element type and shape.
  public var type: ValueType { ValueType(elementType, Shape(shape)) }

  /// The bytes of the elements, valid while the buffer lives.
  public var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: buffer.base + byteOffset, count: byteCount)
  }

  /// Calls `body` with the elements, in row-major order; they are valid during the call only.
  /// - Precondition: ``elementType`` is that of `Element`.
  public func withElements<Element: TensorElement, R, E: Error>(
    as: Element.Type = Element.self, _ body: (UnsafeBufferPointer<Element>) throws(E) -> R
  ) throws(E) -> R {
    precondition(
      elementType == Element.elementType, "a \(elementType) tensor read as \(Element.self)")
    defer { withExtendedLifetime(buffer) {} }
    let start = (buffer.base + byteOffset).assumingMemoryBound(to: Element.self)
    return try body(UnsafeBufferPointer(start: start, count: elementCount))
  }

  /// A copy of the elements, in row-major order.
  /// - Precondition: ``elementType`` is that of `Element`.
  public func elements<Element: TensorElement>(as type: Element.Type = Element.self) -> [Element] {
    withElements(as: type) { (elements) in Array(elements) }
  }

  /// The same bytes under another shape.
  /// - Throws: `malformed` if the number of elements differs.
  public func reshaped(_ shape: [Int]) throws(QMError) -> Tensor {
    guard Shape.elementCount(of: shape) == elementCount else {
      throw .malformed("\(elementCount) elements do not fill shape \(shape)")
    }
    return try Tensor(elementType, shape, buffer: buffer, byteOffset: byteOffset)
  }

  /// Whether element type, shape and every byte are equal. NaNs with equal bits are equal.
  public func isIdentical(to other: Tensor) -> Bool {
    elementType == other.elementType && shape == other.shape
      && (byteCount == 0 || memcmp(bytes.baseAddress!, other.bytes.baseAddress!, byteCount) == 0)
  }
}

extension Tensor: CustomStringConvertible {
  /// `float32[1, 64]`.
  public var description: String { "\(elementType)\(shape)" }
}

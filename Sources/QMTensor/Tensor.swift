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
/// let half = try image.converted(to: .float16)           // or throws what does not fit
/// let numbers = image.elements(as: Float.self)           // a copy
/// let sum = image.withElements(as: Float.self) { $0.reduce(0, +) }  // without one
/// ```
///
/// Memory that cannot be had is an error, and not the end of the process.
public struct Tensor: Sendable {
  /// Type of one element.
  public let elementType: ElementType
  /// Extents, outermost axis first; empty for a scalar.
  public let shape: [Int]
  /// What holds the elements, maybe beside those of other tensors.
  public let buffer: Buffer
  /// First byte of the elements in ``buffer``.
  public let byteOffset: Int

  /// A view of `shape` elements from `byteOffset` on; a copy where they are misaligned, as they may
  /// be in a file.
  /// - Throws: `malformed` if the extents overflow or reach beyond the buffer; `outOfMemory`.
  public init(_ elementType: ElementType, _ shape: [Int], buffer: Buffer, byteOffset: Int = 0)
    throws(QMError)
  {
    guard let count = Shape.elementCount(of: shape) else {
      throw .malformed("the extents of shape \(shape) are negative or too large")
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

  /// Zeros.
  /// - Throws: `malformed` if the extents are negative or overflow; `outOfMemory`.
  public init(zeros elementType: ElementType, _ shape: [Int]) throws(QMError) {
    let size = try Tensor.byteCount(of: elementType, shape)
    try self.init(elementType, shape, buffer: Buffer.allocate(byteCount: size))
  }

  /// A copy of the given elements, in row-major order.
  /// - Throws: `invalidInput` unless the number of elements is the product of the extents;
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

  /// The elements that `body` writes, over zeros. Unlike an array, memory that cannot be had is an
  /// error: what is as large as weights is made here.
  /// - Throws: `malformed` if the extents overflow; `outOfMemory`.
  public init<Element: TensorElement>(
    _ shape: [Int], as: Element.Type = Element.self,
    writing body: (UnsafeMutableBufferPointer<Element>) -> Void
  ) throws(QMError) {
    try self.init(zeros: Element.elementType, shape)
    let start = buffer.base.assumingMemoryBound(to: Element.self)
    body(UnsafeMutableBufferPointer(start: start, count: elementCount))
  }

  /// Memory that a tensor takes, in bytes.
  /// - Throws: `malformed` if the extents are negative or their product overflows.
  public static func byteCount(of elementType: ElementType, _ shape: [Int]) throws(QMError) -> Int {
    guard let count = Shape.elementCount(of: shape) else {
      throw .malformed("the extents of shape \(shape) are negative or too large")
    }
    let (size, overflow) = count.multipliedReportingOverflow(by: elementType.byteCount)
    guard !overflow else { throw .malformed("the extents of shape \(shape) are too large") }
    return size
  }

  /// Product of the extents; 1 for a scalar.
  public var elementCount: Int { shape.reduce(1, *) }
  /// Memory that the elements take, in bytes.
  public var byteCount: Int { elementCount * elementType.byteCount }
  /// Element type and shape.
  public var type: ValueType { ValueType(elementType, Shape(shape)) }

  /// The bytes, valid while the buffer lives.
  public var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: buffer.base + byteOffset, count: byteCount)
  }

  /// Lends the elements, in row-major order, for the time of the call.
  /// - Precondition: ``elementType`` is `Element`'s.
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
  /// - Precondition: ``elementType`` is `Element`'s.
  public func elements<Element: TensorElement>(as type: Element.Type = Element.self) -> [Element] {
    withElements(as: type) { (elements) in Array(elements) }
  }

  /// The same bytes under another shape.
  /// - Throws: `malformed` unless the extents have the same product.
  public func reshaped(_ shape: [Int]) throws(QMError) -> Tensor {
    guard Shape.elementCount(of: shape) == elementCount else {
      throw .malformed("\(elementCount) elements do not fill shape \(shape)")
    }
    return try Tensor(elementType, shape, buffer: buffer, byteOffset: byteOffset)
  }

  /// Whether element type, extents and every byte are equal. NaNs with equal bits are equal.
  public func isIdentical(to other: Tensor) -> Bool {
    elementType == other.elementType && shape == other.shape
      && (byteCount == 0 || memcmp(bytes.baseAddress!, other.bytes.baseAddress!, byteCount) == 0)
  }
}

extension Tensor: CustomStringConvertible {
  /// `float32[1, 64]`.
  public var description: String { "\(elementType)\(shape)" }
}

import QMOperations
import QMTensor

/// A read-only view of a value of a run. Its bytes are valid only during the observer's call.
public struct ValueView {
  /// Type of one element.
  public let elementType: ElementType
  /// The extent of each axis, outermost first.
  public let shape: [Int]
  /// How the elements map to numbers.
  public let quantization: Quantization
  /// The elements in row-major order.
  public let bytes: UnsafeRawBufferPointer

  init(_ view: TensorView) {
    elementType = view.elementType
    shape = view.shape
    quantization = view.quantization
    bytes = UnsafeRawBufferPointer(start: view.base, count: view.byteCount)
  }

  /// The elements in row-major order.
  /// - Precondition: ``elementType`` is that of `Element`.
  public func elements<Element: TensorElement>(
    as: Element.Type = Element.self
  ) -> UnsafeBufferPointer<Element> {
    precondition(
      elementType == Element.elementType, "a \(elementType) value read as \(Element.self)")
    return bytes.assumingMemoryBound(to: Element.self)
  }
}

import QMOperations
import QMTensor

/// A value of a run, to look at. Its bytes are valid during the call that shows it.
public struct ValueView {
  public let elementType: ElementType
  /// The extent of each axis.
  public let shape: [Int]
  /// How codes stand for real numbers.
  public let quantization: Quantization
  /// The elements in row-major order.
  public let bytes: UnsafeRawBufferPointer

  init(_ view: TensorView) {
    elementType = view.elementType
    shape = view.shape
    quantization = view.quantization
    bytes = UnsafeRawBufferPointer(start: view.base, count: view.byteCount)
  }

  /// The elements in row-major order. `Element` must be the type that ``elementType`` names.
  public func elements<Element: TensorElement>(
    as: Element.Type = Element.self
  ) -> UnsafeBufferPointer<Element> {
    precondition(
      elementType == Element.elementType, "a \(elementType) value read as \(Element.self)")
    return bytes.assumingMemoryBound(to: Element.self)
  }
}

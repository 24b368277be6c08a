import QMTensor

/// float32 → codes on a fixed grid: `clamp(roundToNearestEven(real · (1 / scale)) + zeroPoint)`.
/// NaN becomes the lowest code.
public struct Quantize: OperationProtocol {
  public static let name = "Quantize"
  public var elementType: ElementType
  public var scale: Float
  public var zeroPoint: Int32

  public init(_ elementType: ElementType, scale: Float, zeroPoint: Int32) {
    self.elementType = elementType
    self.scale = scale
    self.zeroPoint = zeroPoint
  }
}

/// float32 → int8 codes on grids found at run time, one per index of the leading `axes` axes.
/// Outputs: the codes; float32 `[leading extents…, 2]`, scale and zero point.
public struct DynamicQuantize: OperationProtocol {
  public static let name = "DynamicQuantize"
  public var axes: Int

  public init(axes: Int) { self.axes = axes }
}

/// Codes → float32, `scale · Float(code − zeroPoint)`. Inputs: codes; scales, where the codes have
/// weights quantization; parameters, where it is dynamic.
public struct Dequantize: OperationProtocol {
  public static let name = "Dequantize"
  public init() {}
}

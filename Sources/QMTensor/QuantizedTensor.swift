/// Symmetrically quantized numbers: `number = scale · code`.
///
/// Each code takes one byte in memory, whatever the code range; how many bits it takes in a file is
/// up to the file's layout.
public struct QuantizedTensor: Sendable {
  /// The codes: int8, in the shape of the numbers.
  public var codes: Tensor
  /// The scales: float32, one for the tensor, per channel or per group, in the shape
  /// ``Granularity/scaleShape(of:)``.
  public var scales: Tensor
  /// Which codes share a scale.
  public var granularity: Granularity
  /// A range that contains every code.
  public var codeRange: ClosedRange<Int32>

  /// Codes with their scales.
  public init(
    codes: Tensor, scales: Tensor, granularity: Granularity, codeRange: ClosedRange<Int32>
  ) {
    self.codes = codes
    self.scales = scales
    self.granularity = granularity
    self.codeRange = codeRange
  }

  /// The quantization as part of a value's type, with the smallest width that contains the code
  /// range.
  public var quantization: Quantization {
    .weights(bits: BitWidth(holding: codeRange) ?? .eight, granularity: granularity)
  }
}

extension BitWidth {
  /// The smallest width that contains all codes of the range.
  /// - Returns: nil for a range beyond 8 bits.
  public init?(holding range: ClosedRange<Int32>) {
    let width = (2...8).lazy.compactMap { BitWidth($0) }.first {
      $0.allCodes.contains(range.lowerBound) && $0.allCodes.contains(range.upperBound)
    }
    guard let width else { return nil }
    self = width
  }
}

extension Granularity {
  /// The granularity of the tensor after a transposition: axis `i` of the transposed tensor is axis
  /// `permutation[i]` of this one.
  public func permuted(by permutation: [Int]) -> Granularity {
    switch self {
    case .perTensor: .perTensor
    case .perChannel(let axis): .perChannel(axis: permutation.firstIndex(of: axis) ?? axis)
    case .perGroup(let axis, let size):
      .perGroup(axis: permutation.firstIndex(of: axis) ?? axis, size: size)
    }
  }
}

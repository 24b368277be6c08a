/// Codes that stand for real numbers around zero: `real = scale · code`.
///
/// The codes are one byte each in memory, whatever their range: how many bits a file spends on one
/// is a matter of the file.
public struct QuantizedTensor: Sendable {
  /// int8, of the shape of the numbers.
  public var codes: Tensor
  /// float32: one scale per index of the granularity's axis, one in all, or one a group, of
  /// ``Granularity/scaleShape(of:)``.
  public var scales: Tensor
  /// Which codes share a scale.
  public var granularity: Granularity
  /// What every code is within.
  public var codeRange: ClosedRange<Int32>

  public init(
    codes: Tensor, scales: Tensor, granularity: Granularity, codeRange: ClosedRange<Int32>
  ) {
    self.codes = codes
    self.scales = scales
    self.granularity = granularity
    self.codeRange = codeRange
  }

  /// The codes as a value's type states them: the least width that bounds the code range.
  public var quantization: Quantization {
    .weights(bits: BitWidth(holding: codeRange) ?? .eight, granularity: granularity)
  }
}

extension BitWidth {
  /// The least width whose codes include the range.
  /// - Returns: nil for a range beyond eight bits.
  public init?(holding range: ClosedRange<Int32>) {
    let width = (2...8).lazy.compactMap { BitWidth($0) }.first {
      $0.allCodes.contains(range.lowerBound) && $0.allCodes.contains(range.upperBound)
    }
    guard let width else { return nil }
    self = width
  }
}

extension Granularity {
  /// The same once the axes of the tensor are permuted: axis `i` of the result is axis
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

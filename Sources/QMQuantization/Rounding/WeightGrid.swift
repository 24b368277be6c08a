import QMOperations
import QMTensor

/// The numbers to which the weights of a tensor can be rounded: `scale · code`, with one scale per
/// tensor, output channel or group.
package struct WeightGrid: Sendable {
  /// float32, in the shape ``Granularity/scaleShape(of:)``.
  package var scales: [Float]
  /// Which weights share a scale.
  package let granularity: Granularity
  /// The codes that may be used.
  package let codes: ClosedRange<Int32>
  /// Shape of the weights.
  private let shape: [Int]
  private let groups: GroupScales?

  /// - Parameters:
  ///   - scales: one for each part of ``parts(of:_:)``.
  ///   - granularity: per tensor, per channel along axis 0, or per group along the last axis.
  package init(
    _ shape: [Int], scales: [Float], _ granularity: Granularity, codes: ClosedRange<Int32>
  ) {
    self.shape = shape
    self.scales = scales
    self.granularity = granularity
    self.codes = codes
    groups = GroupScales(.weights(bits: .eight, granularity: granularity), shape: shape)
  }

  /// The scale of one weight.
  /// - Parameters:
  ///   - channel: index of the output channel.
  ///   - element: index within the channel.
  @inline(__always)
  func scale(of channel: Int, _ element: Int) -> Float {
    if let groups {
      return scales[groups.scale(ofCode: channel * (codeCount / shape[0]) + element)]
    }
    return scales[scales.count == 1 ? 0 : channel]
  }

  private var codeCount: Int { shape.reduce(1, *) }

  /// The elements that share each scale, as ranges of indices in row-major order.
  static func parts(of shape: [Int], _ granularity: Granularity) -> [Range<Int>] {
    let count = shape.reduce(1, *)
    guard case .perGroup(_, let size) = granularity, let length = shape.last, length > 0 else {
      let channels = granularity == .perTensor ? 1 : max(shape.first ?? 1, 1)
      let size = count / channels
      return (0..<channels).map { ($0 * size)..<(($0 + 1) * size) }
    }
    return stride(from: 0, to: count, by: length).flatMap { row in
      stride(from: row, to: row + length, by: size).map { $0..<min($0 + size, row + length) }
    }
  }

  /// - Throws: `malformed` if a weight is NaN or infinite.
  static func requireFinite(_ weights: Tensor) throws(QMError) {
    guard isFinite(weights) else {
      throw .malformed("the weights contain NaN or infinity, expected finite numbers")
    }
  }

  static func isFinite(_ weights: Tensor) -> Bool {
    weights.withElements(as: Float.self, { $0.allSatisfy(\.isFinite) })
  }

  /// These codes with the grid's scales.
  /// - Parameter codes: int8, in the shape of the weights.
  func quantized(_ codes: Tensor) throws(QMError) -> QuantizedTensor {
    let scaleShape = try granularity.scaleShape(of: Shape(shape)).extents ?? [scales.count]
    return QuantizedTensor(
      codes: codes, scales: try Tensor(scaleShape, scales), granularity: granularity,
      codeRange: self.codes)
  }
}

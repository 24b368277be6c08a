import QMTensor

extension Granularity {
  /// The shape of the scales for codes of the given shape: `[1]`; `[channels]`; or the shape of the
  /// codes with the number of groups in place of the extent of the axis. The last group may be
  /// shorter.
  /// - Throws: `malformed` if the codes have no such axis, or groups are empty.
  public func scaleShape(of codes: Shape) throws(QMError) -> Shape {
    switch self {
    case .perTensor: return [1]
    case .perChannel(let axis):
      guard (0..<codes.rank).contains(axis) else {
        throw .malformed("scales are along axis \(axis), which weights \(codes) do not have")
      }
      return Shape([codes[axis]])
    case .perGroup(let axis, let size):
      guard (0..<codes.rank).contains(axis), size >= 1 else {
        throw .malformed(
          "groups of \(size) weights along axis \(axis) are not possible in weights \(codes)")
      }
      var shape = codes
      if let extent = codes[axis].extent {
        shape.axes[axis] = .fixed(GroupScales.count(of: extent, size: size))
      }
      return shape
    }
  }
}

/// Finds the scale of each code of a constant when groups of codes along an axis share a scale.
public struct GroupScales: Hashable, Sendable {
  /// Extent of the axis.
  let extent: Int
  /// Number of consecutive codes with the same index along the axis.
  let inner: Int
  /// Codes per group.
  let size: Int

  /// - Parameter shape: shape of the codes; it has the axis of the groups.
  /// - Returns: nil for codes whose scales are not per group.
  public init?(_ quantization: Quantization, shape: [Int]) {
    guard case .weights(_, .perGroup(let axis, let size)) = quantization else { return nil }
    extent = shape[axis]
    inner = shape[(axis + 1)...].reduce(1, *)
    self.size = size
  }

  /// Groups along the axis.
  var count: Int { Self.count(of: extent, size: size) }

  /// `extent / size`, rounded up, without overflow: a file may contain any size.
  static func count(of extent: Int, size: Int) -> Int { extent == 0 ? 0 : (extent - 1) / size + 1 }

  /// The index of the scale of code `index`, both in row-major order.
  public func scale(ofCode index: Int) -> Int {
    let (outer, rest) = index.quotientAndRemainder(dividingBy: extent * inner)
    return (outer * count + rest / inner / size) * inner + rest % inner
  }
}

/// The accumulator of the reference loops for weights with scales per group: an integer sum for
/// each group, and the float32 sum over the groups in order.
struct GroupSum {
  private let end: ReferenceEpilogue
  private let scales: GroupScales
  private let row: Int
  private var earlierGroups: Float = 0
  private var sum: Int32 = 0
  private var scale: Int?

  /// - Parameter row: row of the input; it selects the scale of a dynamically quantized input.
  init(_ end: ReferenceEpilogue, _ scales: GroupScales, row: Int) {
    self.end = end
    self.scales = scales
    self.row = row
  }

  /// Adds a product with the weight at `index`. The weights of a group must be added consecutively.
  mutating func add(_ product: Int32, weight index: Int) {
    let next = scales.scale(ofCode: index)
    if next != scale {
      earlierGroups = total
      sum = 0
      scale = next
    }
    sum &+= product
  }

  /// The float32 sum of all groups: that of the earlier ones, plus
  /// `Float(sum) · (input scale · weight scale)` of the last one.
  var total: Float {
    scale.map { earlierGroups + Float(sum) * end.multiplier(row: row, scale: $0) } ?? earlierGroups
  }
}

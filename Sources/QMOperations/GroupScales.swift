import QMTensor

extension Granularity {
  /// The shape of the scales beside codes of the given shape: `[1]`, one per channel, or the codes'
  /// shape with as many indices along the axis as it has groups. The last group may be shorter.
  /// - Throws: `malformed` if the codes have no such axis.
  public func scaleShape(of codes: Shape) throws(QMError) -> Shape {
    switch self {
    case .perTensor: return [1]
    case .perChannel(let axis):
      guard (0..<codes.rank).contains(axis) else {
        throw .malformed("scales along axis \(axis) of weights \(codes)")
      }
      return Shape([codes[axis]])
    case .perGroup(let axis, let size):
      guard (0..<codes.rank).contains(axis), size >= 1 else {
        throw .malformed("scales of \(size) elements along axis \(axis) of weights \(codes)")
      }
      var shape = codes
      if let extent = codes[axis].extent {
        shape.axes[axis] = .fixed(GroupScales.count(of: extent, size: size))
      }
      return shape
    }
  }
}

/// Which scale belongs to which code of a constant, where groups of codes along an axis share one.
public struct GroupScales: Hashable, Sendable {
  /// Codes along the axis.
  let extent: Int
  /// Codes of one index of the axis that follow each other.
  let inner: Int
  /// Codes of a group.
  let size: Int

  /// - Parameter shape: of the codes; it has the axis of the groups.
  /// - Returns: nil for codes whose scales are not by group.
  public init?(_ quantization: Quantization, shape: [Int]) {
    guard case .weights(_, .perGroup(let axis, let size)) = quantization else { return nil }
    extent = shape[axis]
    inner = shape[(axis + 1)...].reduce(1, *)
    self.size = size
  }

  /// Groups along the axis.
  var count: Int { Self.count(of: extent, size: size) }

  /// `extent / size`, rounded up; a file may have any size.
  static func count(of extent: Int, size: Int) -> Int { extent == 0 ? 0 : (extent - 1) / size + 1 }

  /// The index of the scale of code `index`, both in row-major order.
  public func scale(ofCode index: Int) -> Int {
    let (outer, rest) = index.quotientAndRemainder(dividingBy: extent * inner)
    return (outer * count + rest / inner / size) * inner + rest % inner
  }
}

/// The accumulator of a product whose weights have scales by group, in the reference loops: exact
/// sums of each group, and their float32 sum in the order of the groups.
struct GroupSum {
  private let end: ReferenceEpilogue
  private let scales: GroupScales
  private let row: Int
  private var real: Float = 0
  private var sum: Int32 = 0
  private var scale: Int?

  /// - Parameter row: of the input; it decides the scale of a dynamic one.
  init(_ end: ReferenceEpilogue, _ scales: GroupScales, row: Int) {
    self.end = end
    self.scales = scales
    self.row = row
  }

  /// Adds a product with the weight at `index`. Weights of a group come one behind the other.
  mutating func add(_ product: Int32, weight index: Int) {
    let next = scales.scale(ofCode: index)
    if next != scale {
      real = total
      sum = 0
      scale = next
    }
    sum &+= product
  }

  /// `real = real + Float(sum) · (input scale · weight scale)` of the last group.
  var total: Float {
    scale.map { real + Float(sum) * end.multiplier(row: row, scale: $0) } ?? real
  }
}

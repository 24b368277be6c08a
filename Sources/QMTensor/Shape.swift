/// The shape of a value, outermost axis first. The extent of an axis is fixed, or the axis is
/// dynamic and gets its extent in a run.
///
/// ```swift
/// let images: Shape = [.free("batch"), 3, 224, 224]
/// images.admits([8, 3, 224, 224])  // true
/// images.extents                   // nil: the batch size is not known yet
/// ```
public struct Shape: Hashable, Sendable {
  /// One axis: its extent, or the name of a dynamic axis.
  public enum Axis: Hashable, Sendable {
    /// An axis of known extent.
    case fixed(Int)
    /// A dynamic axis: its extent is known when a run begins. In one run, axes of the same
    /// non-empty name have equal extents; an empty name says nothing.
    case free(String)

    /// A dynamic axis whose extent is computed from others by `formula`: equal formulas mean equal
    /// extents. The axis is named by the formula, or by its 64-bit FNV-1a hash if it is longer than
    /// ``Shape/nameLimit``.
    public static func derived(_ formula: String) -> Axis {
      guard formula.utf8.count > Shape.nameLimit else { return .free(formula) }
      var hash: UInt64 = 0xCBF2_9CE4_8422_2325
      for byte in formula.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
      return .free("#" + String(hash, radix: 16))
    }

    /// Whether the name is the hash of a formula, which tells a reader nothing.
    fileprivate var isHashed: Bool {
      guard case .free(let name) = self, name.hasPrefix("#") else { return false }
      return name.dropFirst().allSatisfy { $0.isHexDigit }
    }

    /// The extent, or nil for a dynamic axis.
    public var extent: Int? {
      if case .fixed(let extent) = self { extent } else { nil }
    }
  }

  /// Maximum length of a dynamic axis's name, in UTF-8 bytes. Readers drop longer names.
  public static let nameLimit = 120

  /// All axes, outermost first.
  public var axes: [Axis]

  /// A shape of these axes, outermost first.
  public init(_ axes: [Axis]) { self.axes = axes }
  /// A shape without dynamic axes, from its extents, outermost first.
  public init(_ extents: [Int]) { axes = extents.map(Axis.fixed) }

  /// Number of axes; 0 for a scalar.
  public var rank: Int { axes.count }

  /// The extents, or nil if an axis is dynamic.
  public var extents: [Int]? {
    var extents: [Int] = []
    extents.reserveCapacity(axes.count)
    for axis in axes {
      guard let extent = axis.extent else { return nil }
      extents.append(extent)
    }
    return extents
  }

  /// Axis `index`, counted from the outermost.
  public subscript(index: Int) -> Axis {
    get { axes[index] }
    set { axes[index] = newValue }
  }

  /// Whether a tensor of shape `shape` can be a value of this shape: the rank and all fixed extents
  /// are equal. It is not checked that dynamic axes of one name get equal extents.
  public func admits(_ shape: [Int]) -> Bool {
    shape.count == rank && zip(axes, shape).allSatisfy { ($0.extent ?? $1) == $1 }
  }

  /// Whether both shapes are equal in every run: their fixed extents are equal, and dynamic axes
  /// have equal, non-empty names.
  public func isCertainlyEqual(to other: Shape) -> Bool {
    self == other && !axes.contains(.free(""))
  }

  /// Maximum number of elements of a tensor; small enough that strides in bytes cannot overflow.
  static let largestElementCount = 1 << 56

  /// Product of the extents, checked for overflow. The limit also applies to the other extents of
  /// an empty tensor, because strides are computed from them.
  /// - Returns: nil if an extent is negative, or if the product of the nonzero extents exceeds
  ///   2^56.
  public static func elementCount(of shape: [Int]) -> Int? {
    var count = 1
    var isEmpty = false
    for extent in shape {
      guard extent >= 0 else { return nil }
      guard extent > 0 else {
        isEmpty = true
        continue
      }
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= largestElementCount else { return nil }
      count = product
    }
    return isEmpty ? 0 : count
  }
}

extension Shape.Axis: ExpressibleByIntegerLiteral {
  /// An axis of this extent.
  public init(integerLiteral value: Int) { self = .fixed(value) }
}

extension Shape: ExpressibleByArrayLiteral {
  /// A shape of these axes, outermost first.
  public init(arrayLiteral elements: Axis...) { self.init(elements) }
}

extension Shape: CustomStringConvertible {
  /// `[batch, 3, 224, 224]`.
  public var description: String { "[" + axes.map(\.description).joined(separator: ", ") + "]" }
}

extension Shape.Axis: CustomStringConvertible {
  /// The extent, or the name of a dynamic axis; `?` if it has no name, or only the hash of a formula.
  public var description: String {
    switch self {
    case .fixed(let extent): "\(extent)"
    case .free(let name): name.isEmpty || isHashed ? "?" : name
    }
  }
}

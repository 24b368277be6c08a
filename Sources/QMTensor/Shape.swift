/// The extents of a tensor, outermost axis first. An axis is a number, or free until a run fixes it.
public struct Shape: Hashable, Sendable {
  public enum Axis: Hashable, Sendable {
    case fixed(Int)
    /// Known only when a run begins. Two axes with one non-empty name are equal then;
    /// an empty name says nothing.
    case free(String)

    /// A free axis whose extent follows from others as `formula` says: equal formulas, equal
    /// extents. A formula beyond ``Shape/nameLimit`` is known by its FNV-1a hash of 64 bits.
    public static func derived(_ formula: String) -> Axis {
      guard formula.utf8.count > Shape.nameLimit else { return .free(formula) }
      var hash: UInt64 = 0xCBF2_9CE4_8422_2325
      for byte in formula.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
      return .free("#" + String(hash, radix: 16))
    }

    /// The extent, or nil where the axis is free.
    public var extent: Int? {
      if case .fixed(let extent) = self { extent } else { nil }
    }
  }

  /// Bytes of a free axis's name, at most; one that would be longer is left out.
  public static let nameLimit = 120

  public var axes: [Axis]

  public init(_ axes: [Axis]) { self.axes = axes }
  public init(_ extents: [Int]) { axes = extents.map(Axis.fixed) }

  public var rank: Int { axes.count }

  /// The extents, or nil while an axis is free.
  public var extents: [Int]? {
    var extents: [Int] = []
    extents.reserveCapacity(axes.count)
    for axis in axes {
      guard let extent = axis.extent else { return nil }
      extents.append(extent)
    }
    return extents
  }

  public subscript(index: Int) -> Axis {
    get { axes[index] }
    set { axes[index] = newValue }
  }

  /// Whether a tensor of these extents can be a value of this shape: same rank, fixed axes equal.
  /// Equal names of free axes are not compared.
  public func admits(_ extents: [Int]) -> Bool {
    extents.count == rank && zip(axes, extents).allSatisfy { ($0.extent ?? $1) == $1 }
  }

  /// Whether every run gives both shapes the same extents: fixed axes equal, free axes of one name.
  public func isCertainlyEqual(to other: Shape) -> Bool {
    self == other && !axes.contains(.free(""))
  }

  /// Elements that any tensor may have; steps between them in bytes do not overflow either.
  static let largestElementCount = 1 << 56

  /// Product of extents with overflow checked. An extent of 0 hides none of the others: steps of
  /// an empty tensor are computed from them like those of any.
  /// - Returns: nil if an extent is negative, or the product of those other than 0 exceeds 2^56.
  public static func elementCount(of extents: [Int]) -> Int? {
    var count = 1
    var isEmpty = false
    for extent in extents {
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
  public init(integerLiteral value: Int) { self = .fixed(value) }
}

extension Shape: ExpressibleByArrayLiteral {
  public init(arrayLiteral elements: Axis...) { self.init(elements) }
}

extension Shape: CustomStringConvertible {
  public var description: String { "[" + axes.map(\.description).joined(separator: ", ") + "]" }
}

extension Shape.Axis: CustomStringConvertible {
  public var description: String {
    switch self {
    case .fixed(let extent): "\(extent)"
    case .free(let name): name.isEmpty ? "?" : name
    }
  }
}

/// The shape of a value, outermost axis first. The extent of an axis is a number, or dynamic until a
/// run fixes it.
///
/// ```swift
/// let images: Shape = [.free("batch"), 3, 224, 224]
/// images.admits([8, 3, 224, 224])  // true
/// images.extents                   // nil: the batch is not known yet
/// ```
public struct Shape: Hashable, Sendable {
  /// One axis: its extent, or the name of what fixes it.
  public enum Axis: Hashable, Sendable {
    /// The extent is known.
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

  /// All axes, outermost first.
  public var axes: [Axis]

  /// A shape of these axes, outermost first.
  public init(_ axes: [Axis]) { self.axes = axes }
  /// A shape whose extents are all known, outermost first.
  public init(_ extents: [Int]) { axes = extents.map(Axis.fixed) }

  /// Number of axes; 0 for a scalar.
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

  /// Axis `index`, counted from the outermost.
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
  /// The extent, or the name of a dynamic axis; `?` where it has none.
  public var description: String {
    switch self {
    case .fixed(let extent): "\(extent)"
    case .free(let name): name.isEmpty ? "?" : name
    }
  }
}

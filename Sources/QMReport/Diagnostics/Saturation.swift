import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Counts how many elements of int8 activations with fixed ranges reached an end of their range,
/// where they may have been clipped.
public struct Saturation {
  /// The counts of one value, or of all values together.
  public struct Share: Sendable, Hashable {
    /// Name of the value; empty for all values together.
    public let name: String
    /// Number of elements that reached an end of their range.
    public let saturatedCount: Int
    /// Number of elements observed.
    public let elementCount: Int
    /// Fraction of the elements that reached an end of their range, 0 to 1.
    public var share: Double {
      elementCount == 0 ? 0 : Double(saturatedCount) / Double(elementCount)
    }
  }

  private let program: Program
  private var counts: [Int: (saturated: Int, elements: Int)] = [:]

  /// Counts for the values of a program.
  public init(_ program: Program) { self.program = program }

  /// Counts one computed value. Values that are not int8 with fixed quantization are ignored.
  /// - Parameters:
  ///   - value: its index in the program.
  ///   - view: its elements.
  public mutating func observe(_ value: Int, _ view: ValueView) {
    guard view.elementType == .int8, case .fixed(_, let zeroPoint) = view.quantization else {
      return
    }
    let codes = view.elements(as: Int8.self)
    var saturated = 0
    // An end of the range that encodes 0 does not count: relu clips half of its results to it.
    let (low, high): (Int8, Int8) = (-128, 127)
    let (countsLow, countsHigh) = (zeroPoint != Int32(low), zeroPoint != Int32(high))
    for code in codes where (code == low && countsLow) || (code == high && countsHigh) {
      saturated += 1
    }
    counts[value, default: (0, 0)].saturated += saturated
    counts[value, default: (0, 0)].elements += codes.count
  }

  /// One entry per value, the largest fraction first.
  public var shares: [Share] {
    counts.sorted { $0.key < $1.key }
      .map { value, count in
        Share(
          name: name(of: value), saturatedCount: count.saturated,
          elementCount: count.elements)
      }
      .sorted { $0.share > $1.share }
  }

  /// The name of a value, or of the node that computes it.
  private func name(of value: Int) -> String {
    let name = program.values[value].name
    guard name.isEmpty else { return name }
    return program.nodes.first { $0.outputs.contains(value) }?.name ?? ""
  }

  /// All values together.
  public var total: Share {
    Share(
      name: "", saturatedCount: counts.values.reduce(0) { $0 + $1.saturated },
      elementCount: counts.values.reduce(0) { $0 + $1.elements })
  }
}

import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// How often int8 activations with fixed ranges met an end of their range: there a number may have
/// been clipped.
public struct Saturation {
  /// How often it happened in one value, or in all.
  public struct Share: Sendable, Hashable {
    /// Name of the value; empty for all together.
    public let name: String
    /// Elements that met an end of their range.
    public let saturatedCount: Int
    /// Elements that were seen.
    public let elementCount: Int
    /// Of the elements, 0 to 1.
    public var share: Double {
      elementCount == 0 ? 0 : Double(saturatedCount) / Double(elementCount)
    }
  }

  private let program: Program
  private var counts: [Int: (saturated: Int, elements: Int)] = [:]

  /// - Parameter program: whose values are observed.
  public init(_ program: Program) { self.program = program }

  /// Takes in a value as it is computed; values that are not int8 with a fixed range are passed over.
  /// - Parameters:
  ///   - value: its number in the program.
  ///   - view: its elements.
  public mutating func observe(_ value: Int, _ view: ValueView) {
    guard view.elementType == .int8, case .fixed(_, let zeroPoint) = view.quantization else {
      return
    }
    let codes = view.elements(as: Int8.self)
    var saturated = 0
    // An end of the range that stands for the number 0 is where a rectifier puts half its results.
    let (low, high): (Int8, Int8) = (-128, 127)
    let (countsLow, countsHigh) = (zeroPoint != Int32(low), zeroPoint != Int32(high))
    for code in codes where (code == low && countsLow) || (code == high && countsHigh) {
      saturated += 1
    }
    counts[value, default: (0, 0)].saturated += saturated
    counts[value, default: (0, 0)].elements += codes.count
  }

  /// One entry per value, the most saturated first.
  public var shares: [Share] {
    counts.sorted { $0.key < $1.key }
      .map { value, count in
        Share(
          name: program.values[value].name, saturatedCount: count.saturated,
          elementCount: count.elements)
      }
      .sorted { $0.share > $1.share }
  }

  /// Over all values together.
  public var total: Share {
    Share(
      name: "", saturatedCount: counts.values.reduce(0) { $0 + $1.saturated },
      elementCount: counts.values.reduce(0) { $0 + $1.elements })
  }
}

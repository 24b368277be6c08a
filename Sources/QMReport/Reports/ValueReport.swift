/// How close an inner value of a network is to that of the reference.
public struct ValueReport: Codable, Hashable, Sendable {
  /// The range of a value's codes, and where the reference's numbers lie.
  public struct Range: Codable, Hashable, Sendable {
    /// The smallest number that a code stands for.
    public let low: Double
    /// The largest number that a code stands for.
    public let high: Double
    /// The smallest number of the reference; above ``greatest`` if there was none.
    public internal(set) var least = Double.infinity
    /// The largest number of the reference.
    public internal(set) var greatest = -Double.infinity
    /// The reference's numbers: in the middle two thirds of the bins those that round to a code, before
    /// and after them those beyond the range.
    public internal(set) var histogram: Histogram

    /// The part of the histogram's width that codes stand for.
    static let inside = 1.0 / 6...5.0 / 6

    /// A range without numbers yet.
    /// - Parameter codeCount: the number of codes, whose distance is the step.
    package init(low: Double, high: Double, codeCount: Int) {
      self.low = low
      self.high = high
      let halfStep = (high - low) / Double(codeCount - 1) / 2
      let beyond = (high - low) / 4 + halfStep / 2
      histogram = Histogram(
        low: low - halfStep - beyond, high: high + halfStep + beyond, binCount: 48)
    }

    /// Adds numbers of the reference.
    package mutating func add(_ numbers: [Float]) {
      for number in numbers {
        least = min(least, Double(number))
        greatest = max(greatest, Double(number))
      }
      histogram.add(numbers)
    }
  }

  /// Name of the value in both networks.
  public let name: String
  /// Name of the operation that computes it; empty for an input.
  public let operation: String
  /// Signal-to-quantization-noise ratio in dB.
  public let signalToNoiseDecibels: Double
  /// The range of its codes; nil unless it is codes with a fixed range.
  public let range: Range?

  /// A value from its parts.
  public init(
    name: String, operation: String, signalToNoiseDecibels: Double, range: Range? = nil
  ) {
    self.name = name
    self.operation = operation
    self.signalToNoiseDecibels = signalToNoiseDecibels
    self.range = range
  }

  enum CodingKeys: String, CodingKey {
    case name, operation, range
    case signalToNoiseDecibels = "sqnr_db"
  }
}

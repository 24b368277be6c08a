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

  /// The ranges that each run computes for a value's codes, and where the reference's numbers lie.
  public struct RunRanges: Codable, Hashable, Sendable {
    /// The numbers that codes stand for.
    public struct Ends: Codable, Hashable, Sendable {
      /// The smallest.
      public internal(set) var low: Double
      /// The largest.
      public internal(set) var high: Double
    }

    /// Number of ranges: one for each row or sample of each run.
    public private(set) var count = 0
    /// The range with the least width.
    public private(set) var narrowest: Ends
    /// The smallest and the largest number of all ranges.
    public private(set) var all: Ends
    /// The reference's numbers.
    public private(set) var histogram: Histogram

    /// No ranges and no numbers yet.
    /// - Parameters:
    ///   - low: the lower end of the first range, at most 0.
    ///   - high: the upper end of the first range, at least 0, above `low`.
    init(low: Double, high: Double) {
      narrowest = Ends(low: low, high: high)
      all = narrowest
      histogram = Histogram(low: low, high: high, binCount: 48)
    }

    /// Adds a range.
    mutating func add(low: Double, high: Double) {
      count += 1
      if high - low < narrowest.high - narrowest.low { narrowest = Ends(low: low, high: high) }
      all = Ends(low: min(low, all.low), high: max(high, all.high))
      histogram.widen(toHold: all.low...all.high)
    }

    /// Adds numbers of the reference; those that are not finite are left out.
    mutating func add(_ numbers: [Float]) {
      let finite = numbers.filter(\.isFinite)
      guard let least = finite.min(), let greatest = finite.max() else { return }
      histogram.widen(toHold: min(Double(least), 0)...max(Double(greatest), 0))
      histogram.add(finite)
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
  /// The ranges of the runs; nil unless products read it as codes with a scale and zero point that each
  /// run computes.
  public let runRanges: RunRanges?

  /// A value from its parts.
  public init(
    name: String, operation: String, signalToNoiseDecibels: Double, range: Range? = nil,
    runRanges: RunRanges? = nil
  ) {
    self.name = name
    self.operation = operation
    self.signalToNoiseDecibels = signalToNoiseDecibels
    self.range = range
    self.runRanges = runRanges
  }

  enum CodingKeys: String, CodingKey {
    case name, operation, range
    case runRanges = "run_ranges"
    case signalToNoiseDecibels = "sqnr_db"
  }
}

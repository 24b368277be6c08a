import QMFormat
import QMRuntime
import QMTensor

/// Measures how far an output is from that of the float network, over any number of samples: as a
/// whole, and each of its parts by itself.
public struct OutputComparison: Sendable, Hashable {
  /// A part and its comparison.
  public struct Part: Sendable, Hashable {
    /// Which elements these are.
    public let part: Program.Metadata.Part
    /// Their comparison.
    public internal(set) var comparison: Comparison
  }

  /// All elements of the output.
  public private(set) var whole = Comparison()
  /// The parts, in their order; empty if the output is judged as a whole.
  public private(set) var parts: [Part]
  /// Fraction of the elements that are equal; nil unless the output is chosen from others.
  public var agreement: Double? {
    isChosen && elementCount > 0 ? Double(equalCount) / Double(elementCount) : nil
  }
  /// Fraction of the rows whose largest element has the same index in both; nil unless rows are
  /// scores of classes.
  public var topOneAgreement: Double? { areScores ? whole.topOneAgreement : nil }
  private let isChosen: Bool
  private let areScores: Bool
  private var equalCount = 0
  private var elementCount = 0

  /// A comparison of no samples yet.
  /// - Parameters:
  ///   - parts: the parts of the output, see ``JudgedParts``.
  ///   - areScores: whether rows along the last axis are scores of classes.
  public init(_ parts: [Program.Metadata.Part] = [], areScores: Bool = false) {
    self.areScores = areScores
    self.parts = parts.map { Part(part: $0, comparison: Comparison()) }
    isChosen = parts.contains { !$0.value.isEmpty }
  }

  /// Number of samples that were added.
  public var sampleCount: Int { whole.sampleCount }

  /// SQNR in dB, the median over the samples: of the worst part, or of the whole output if it has no
  /// parts.
  public var signalToNoise: Double { worst.comparison.medianSignalToNoise }

  /// The worst part; nil for the whole output.
  public var worst: (part: Program.Metadata.Part?, comparison: Comparison) {
    let judged = parts.filter { $0.comparison.sampleCount > 0 }
    guard
      let worst = judged.min(by: {
        $0.comparison.medianSignalToNoise < $1.comparison.medianSignalToNoise
      })
    else { return (nil, whole) }
    return (worst.part, worst.comparison)
  }

  /// Adds one sample.
  /// - Parameters:
  ///   - reference: the output of the float network.
  ///   - measured: the output of the program.
  ///   - innerValues: inner values of both, by name; see ``JudgedParts/innerValues``.
  /// - Throws: `invalidInput` if shapes or element types differ.
  public mutating func add(
    reference: Tensor, measured: Tensor,
    innerValues: [String: (reference: [Float], measured: [Float])] = [:]
  ) throws(QMError) {
    try whole.add(reference: reference, measured: measured)
    if isChosen {
      let (left, right) = (
        try reference.converted(to: .float32).elements(as: Float.self),
        try measured.converted(to: .float32).elements(as: Float.self)
      )
      elementCount += left.count
      equalCount += zip(left, right).count { $0 == $1 }
    }
    for index in parts.indices {
      let part = parts[index].part
      if !part.value.isEmpty {
        guard let (left, right) = innerValues[part.value], left.count == right.count else {
          continue
        }
        parts[index].comparison.add(left, right, rowLength: 1)
      } else if let left = try part.elements(of: reference),
        let right = try part.elements(of: measured)
      {
        parts[index].comparison.add(left, right, rowLength: 1)
      }
    }
  }

  /// The results as a file stores them.
  /// - Parameter output: index of the output in the program.
  public func measurements(output: Int) -> [Program.Metadata.Measurement] {
    var measurements: [Program.Metadata.Measurement] = []
    func append(
      _ measure: Program.Metadata.Measure, _ value: Double, _ part: Program.Metadata.Part? = nil
    ) {
      measurements.append(
        .init(output: output, part: part, measure, Float(value), sampleCount: sampleCount))
    }
    let judged: [(part: Program.Metadata.Part?, comparison: Comparison)] =
      parts.isEmpty ? [(nil, whole)] : parts.map { ($0.part, $0.comparison) }
    for (part, comparison) in judged where comparison.sampleCount > 0 {
      append(.signalToNoise, comparison.medianSignalToNoise, part)
      append(.deviation, comparison.deviation, part)
    }
    append(.largestDifference, whole.largestDifference)
    append(.cosine, whole.cosine)
    if let agreement { append(.agreement, agreement) }
    if let agreement = topOneAgreement { append(.topOneAgreement, agreement) }
    return measurements
  }
}

extension Program.Metadata.Part {
  /// The part's elements of an output in float32; nil if the output's shape does not have them.
  func elements(of tensor: Tensor) throws(QMError) -> [Float]? {
    let elements = try tensor.converted(to: .float32).elements(as: Float.self)
    guard !ranges.isEmpty else { return elements }
    let position = tensor.shape.count + axis
    guard tensor.shape.indices.contains(position) else { return nil }
    let extent = tensor.shape[position]
    guard ranges.allSatisfy({ $0.upperBound <= extent }) else { return nil }
    let inner = tensor.shape[(position + 1)...].reduce(1, *)
    var part: [Float] = []
    for outer in 0..<tensor.shape[..<position].reduce(1, *) {
      for range in ranges {
        let start = (outer * extent + range.lowerBound) * inner
        part += elements[start..<start + range.count * inner]
      }
    }
    return part
  }

  /// The part as people write it: `y[…, 0..<4, :]`, or the name of an inner value.
  public func description(of output: String) -> String {
    guard value.isEmpty else { return value }
    guard !ranges.isEmpty else { return output }
    let indices = ranges.map { "\($0.lowerBound)..<\($0.upperBound)" }.joined(separator: "+")
    return "\(output)[…, \(indices)\(String(repeating: ", :", count: -axis - 1))]"
  }
}

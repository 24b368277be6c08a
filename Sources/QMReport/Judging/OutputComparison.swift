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
    /// Which of the added samples were compared, in the order of the comparison.
    fileprivate var samples: [Int] = []
  }

  /// A sample and its error.
  public struct SampleError: Sendable, Hashable {
    /// Its number, in the order in which samples were added.
    public let index: Int
    /// SQNR in dB of the sample alone.
    public let signalToNoise: Double
  }

  /// All elements of the output.
  public private(set) var whole: Comparison
  /// The parts, in their order; empty if the output is judged as a whole.
  public private(set) var parts: [Part]
  /// Whether the output is a state, which does not decide: its effect on the other outputs does.
  public let isState: Bool
  /// Fraction of the elements that are equal; nil unless the output is chosen from others.
  public var agreement: Double? {
    isChosen && elementCount > 0 ? Double(equalCount) / Double(elementCount) : nil
  }
  /// Fraction of the rows whose largest element has the same index in both; nil unless rows are
  /// scores of classes.
  public var topOneAgreement: Double? { areScores ? whole.topOneAgreement : nil }
  /// Number of samples for which the output had another shape.
  public private(set) var otherShapeCount = 0
  /// Number of elements that are infinite or NaN on one side only.
  public var misplacedCount: Int { whole.misplacedCount - (isChosen ? 0 : otherShapeCount) }
  /// Whether the output is chosen from other numbers, which are judged in its place.
  package let isChosen: Bool
  private let areScores: Bool
  /// Which of the added samples were compared as a whole.
  private var samples: [Int] = []
  private var addedCount = 0
  private var equalCount = 0
  private var elementCount = 0

  /// A comparison of no samples yet.
  /// - Parameters:
  ///   - parts: the parts of the output, see ``JudgedParts``.
  ///   - areScores: whether rows along the last axis are scores of classes.
  ///   - isState: whether the output is an input of the next step.
  ///   - magnitudes: what the signal of a sample counts as at least, by part; nil stands for the whole
  ///     output.
  public init(
    _ parts: [Program.Metadata.Part] = [], areScores: Bool = false, isState: Bool = false,
    leastMagnitudes magnitudes: [Program.Metadata.Part?: Double] = [:]
  ) {
    self.areScores = areScores
    self.isState = isState
    whole = Comparison(leastMagnitude: magnitudes[nil] ?? 0)
    self.parts = parts.map {
      Part(
        part: $0,
        comparison: Comparison(
          aboutMean: $0.form == .logOdds, leastMagnitude: magnitudes[$0] ?? 0))
    }
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

  /// The samples with their errors of the worst part, or of the whole output; the largest error first,
  /// and of equal ones the first sample.
  public var samplesByError: [SampleError] {
    let (part, comparison) = worst
    let samples = parts.first { $0.part == part }?.samples ?? samples
    let errors = zip(samples, comparison.normalizedErrors).map { sample, error in
      (sample: sample, error: error.isNaN ? .infinity : error)
    }
    return errors.sorted { ($1.error, $0.sample) < ($0.error, $1.sample) }.map {
      SampleError(index: $0.sample, signalToNoise: Comparison.decibels(1 / $0.error))
    }
  }

  /// SQNR in dB of each added sample alone: of each part that was compared or, without such parts, of
  /// the whole output; nil where the sample does not have it.
  public var figuresOfSamples: [[Double?]] {
    let judged = parts.filter { $0.comparison.sampleCount > 0 }
    let columns = judged.isEmpty ? [(samples, whole)] : judged.map { ($0.samples, $0.comparison) }
    var figures = [[Double?]](
      repeating: [Double?](repeating: nil, count: columns.count), count: addedCount)
    for (column, (samples, comparison)) in columns.enumerated() {
      for (sample, error) in zip(samples, comparison.normalizedErrors) {
        figures[sample][column] = Comparison.decibels(1 / (error.isNaN ? .infinity : error))
      }
    }
    return figures
  }

  /// Adds one sample of an output alone, without inner values and next steps.
  /// - Parameters:
  ///   - reference: the output of the float network.
  ///   - measured: the output of the program.
  /// - Throws: `invalidInput` if shapes or element types differ.
  public mutating func add(reference: Tensor, measured: Tensor) throws(QMError) {
    try add(
      "", reference: .init(outputs: ["": reference], innerValues: [:]),
      measured: .init(outputs: ["": measured], innerValues: [:]))
  }

  /// Adds one sample of an output from runs of both networks. An output of another shape, which
  /// numbers decided, is wrong altogether; but what is chosen from others is judged by those.
  /// - Throws: `invalidInput` if element types differ.
  package mutating func add(
    _ output: String, reference: JudgedRun.Results, measured: JudgedRun.Results,
    next: (reference: JudgedRun.Results, measured: JudgedRun.Results)? = nil
  ) throws(QMError) {
    defer { addedCount += 1 }
    guard let left = reference.outputs[output], let right = measured.outputs[output] else { return }
    samples.append(addedCount)
    if left.shape == right.shape {
      try whole.add(reference: left, measured: right)
      if isChosen {
        let (left, right) = (
          try left.converted(to: .float32).elements(as: Float.self),
          try right.converted(to: .float32).elements(as: Float.self)
        )
        elementCount += left.count
        equalCount += zip(left, right).count { $0 == $1 }
      }
    } else {
      otherShapeCount += 1
      whole.add(isChosen ? [] : [0], isChosen ? [] : [.infinity], rowLength: 1)
      elementCount += max(left.elementCount, right.elementCount)
    }
    for index in parts.indices {
      let part = parts[index].part
      guard let pair = part.isNextStep ? next : (reference, measured),
        let (left, right) = try part.numbers(of: output, pair.reference, pair.measured)
      else { continue }
      parts[index].comparison.add(left, right, rowLength: 1)
      parts[index].samples.append(addedCount)
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
      append(.magnitude, comparison.medianMagnitude, part)
    }
    append(.largestDifference, whole.largestDifference)
    append(.cosine, whole.cosine)
    if let agreement { append(.agreement, agreement) }
    if let agreement = topOneAgreement { append(.topOneAgreement, agreement) }
    return measurements
  }
}

extension Program.Metadata.Part {
  /// The numbers of the part that are compared; nil if one of the networks does not have them. Those
  /// of unlike shapes are wrong altogether.
  package func numbers(
    of output: String, _ reference: JudgedRun.Results, _ measured: JudgedRun.Results
  ) throws(QMError) -> (reference: [Float], measured: [Float])? {
    guard let left = try elements(of: output, reference),
      let right = try elements(of: output, measured)
    else { return nil }
    guard left.shape == right.shape else { return ([0], [.infinity]) }
    switch form {
    case .elements: return (left.elements, right.elements)
    case .logOdds:
      return (try LogOdds.independent(left.elements), try LogOdds.independent(right.elements))
    case .classLogOdds:
      let position = left.shape.count + axis
      guard left.shape.indices.contains(position) else { return nil }
      return try LogOdds.ofClasses(
        left.elements, right.elements, extent: left.shape[position],
        inner: left.shape[(position + 1)...].reduce(1, *))
    }
  }

  /// The part's elements in float32; nil if the results do not have them.
  private func elements(
    of output: String, _ results: JudgedRun.Results
  ) throws(QMError) -> (elements: [Float], shape: [Int])? {
    guard value.isEmpty else {
      return results.innerValues[value].map { ($0.elements, $0.shape) }
    }
    guard let tensor = results.outputs[output] else { return nil }
    let elements = try tensor.converted(to: .float32).elements(as: Float.self)
    guard !ranges.isEmpty else { return (elements, tensor.shape) }
    var shape = tensor.shape
    let position = shape.count + axis
    guard shape.indices.contains(position) else { return nil }
    let extent = shape[position]
    guard ranges.allSatisfy({ $0.upperBound <= extent }) else { return nil }
    let inner = shape[(position + 1)...].reduce(1, *)
    var part: [Float] = []
    for outer in 0..<shape[..<position].reduce(1, *) {
      for range in ranges {
        let start = (outer * extent + range.lowerBound) * inner
        part += elements[start..<start + range.count * inner]
      }
    }
    shape[position] = ranges.reduce(0) { $0 + $1.count }
    return (part, shape)
  }

  /// The part as people write it: `y[…, 0..<4, :]`, `log odds of y`, `y after one more step`, or the
  /// name of an inner value.
  public func description(of output: String) -> String {
    var words = value.isEmpty ? output : value
    if !ranges.isEmpty {
      let indices = ranges.map { "\($0.lowerBound)..<\($0.upperBound)" }.joined(separator: "+")
      words += "[…, \(indices)\(String(repeating: ", :", count: -axis - 1))]"
    }
    if form != .elements { words = "log odds of \(words)" }
    return isNextStep ? "\(words) after one more step" : words
  }
}

import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Measures how far computed tensors are from reference tensors, over any number of samples.
///
/// ```swift
/// var comparison = Comparison()
/// try comparison.add(reference: floatModel.run(inputs)["y"]!, measured: model.run(inputs)["y"]!)
/// print(comparison.signalToNoise, "dB")
/// ```
public struct Comparison: Sendable, Hashable {
  /// Number of elements in all samples together.
  public private(set) var elementCount = 0
  /// Number of samples that were added.
  public private(set) var sampleCount = 0
  /// Largest absolute difference of two elements; infinite if only one of them is NaN.
  public private(set) var largestDifference: Double = 0
  private var signal = 0.0
  private var noise = 0.0
  private var product = 0.0
  private var measuredPower = 0.0
  private var rowCount = 0
  private var agreeingRowCount = 0
  private var rowLength = 0
  /// Number of elements that are infinite or NaN on one side only, or in different ways.
  public private(set) var misplacedCount = 0
  private var samples: [SamplePower] = []
  private let isAboutMean: Bool
  private let leastMagnitude: Double

  /// Powers of one sample, summed over its elements.
  private struct SamplePower: Hashable {
    var signal = 0.0
    var noise = 0.0
    /// Sum and number of the finite reference elements.
    var sum = 0.0
    var count = 0.0
  }

  /// A comparison of no samples yet.
  /// - Parameters:
  ///   - isAboutMean: whether the signal of each sample is about the mean of the reference elements
  ///     over all samples; for numbers whose mean says nothing, such as the log odds of rare events.
  ///   - leastMagnitude: the signal of each sample counts as at least this root mean square, in the
  ///     unit of the elements. For a few samples, the ``medianMagnitude`` of more: among a few, one
  ///     whose signal is small by chance would decide.
  public init(aboutMean isAboutMean: Bool = false, leastMagnitude: Double = 0) {
    self.isAboutMean = isAboutMean
    self.leastMagnitude = leastMagnitude
  }

  /// Signal-to-quantization-noise ratio in dB, `10·log10(Σ r² / Σ (r − m)²)` with reference
  /// elements r and measured elements m; infinite if nothing differs.
  public var signalToNoise: Double {
    guard noise > 0 else { return .infinity }
    guard signal > 0 else { return -.infinity }
    return Comparison.decibels(signal / noise)
  }

  /// The error of each sample by the power of its own signal, in the order in which they were added;
  /// 0 if nothing differs. The signal of a sample counts as at least a hundredth of the average of all
  /// but the loudest eighth: almost silent samples would otherwise decide, and so would a loud one.
  public var normalizedErrors: [Double] {
    let signals = sampleSignals
    let usualSignals = signals.sorted().prefix(signals.count - signals.count / 8)
    let least = 0.01 * usualSignals.reduce(0, +) / Double(max(usualSignals.count, 1))
    return zip(samples, signals).map { sample, signal in
      let usual = leastMagnitude * leastMagnitude * sample.count
      return sample.noise > 0 ? sample.noise / max(signal, least, usual) : 0
    }
  }

  /// The median over the samples of the root mean square of their signal, in the unit of the elements;
  /// 0 without finite elements.
  public var medianMagnitude: Double {
    let magnitudes = zip(samples, sampleSignals).filter { $0.0.count > 0 }
      .map { ($1 / $0.count).squareRoot() }
    return magnitudes.isEmpty ? 0 : Comparison.median(magnitudes)
  }

  private var sampleSignals: [Double] {
    let count = samples.reduce(0) { $0 + $1.count }
    guard isAboutMean, count >= Comparison.leastCountOfMean else { return samples.map(\.signal) }
    let mean = samples.reduce(0) { $0 + $1.sum } / count
    let signals = samples.map {
      max($0.signal - 2 * mean * $0.sum + mean * mean * $0.count, 0)
    }
    // Equal numbers have no variance with which noise can be compared.
    return signals.contains { $0 > 0 } ? signals : samples.map(\.signal)
  }

  /// Number of elements from which a variance is meaningful.
  private static let leastCountOfMean = 8.0

  /// The median over the samples of their SQNR in dB; infinite if nothing differs.
  public var medianSignalToNoise: Double {
    samples.isEmpty ? .infinity : Comparison.median(sampleRatios)
  }

  /// SQNR in dB of the worst sample; infinite if nothing differs.
  public var worstSignalToNoise: Double { sampleRatios.min() ?? .infinity }

  private var sampleRatios: [Double] {
    normalizedErrors.map { $0 > 0 ? Comparison.decibels(1 / $0) : .infinity }
  }

  /// The median absolute deviation from ``medianSignalToNoise``, in dB, of the SQNR of the other
  /// samples that differ. With the one that is the median, the deviation of a few would be too small.
  public var deviation: Double {
    let median = medianSignalToNoise
    guard median.isFinite else { return 0 }
    let deviations = sampleRatios.filter(\.isFinite).map { abs($0 - median) }.sorted()
    return deviations[deviations.count / 2]
  }

  /// The lower of the two middle numbers where their count is even.
  private static func median(_ numbers: [Double]) -> Double {
    numbers.sorted()[(numbers.count - 1) / 2]
  }

  /// A ratio of powers in dB.
  public static func decibels(_ ratio: Double) -> Double { 10 * log10(ratio) }

  /// Converts dB to a ratio of powers.
  public static func ratio(ofDecibels decibels: Double) -> Double { pow(10, decibels / 10) }

  /// Cosine similarity of all elements, each side as one vector; 1 if both are zero.
  public var cosine: Double {
    guard signal > 0, measuredPower > 0 else { return signal == measuredPower ? 1 : 0 }
    return product / (signal * measuredPower).squareRoot()
  }

  /// Fraction of the rows, along the last axis, whose largest element has the same index on both
  /// sides; nil if rows have fewer than two elements.
  public var topOneAgreement: Double? {
    rowLength > 1 && rowCount > 0 ? Double(agreeingRowCount) / Double(rowCount) : nil
  }

  /// Adds one sample. Elements of other types than float32 are converted to float32.
  /// - Throws: `invalidInput` if shapes or element types differ.
  public mutating func add(reference: Tensor, measured: Tensor) throws(QMError) {
    guard reference.shape == measured.shape, reference.elementType == measured.elementType else {
      throw .invalidInput("found \(measured), expected \(reference)")
    }
    guard reference.elementType == .float32 else {
      try addConverted(reference: reference, measured: measured)
      return
    }
    let (reference, measured, shape) = (
      reference.elements(as: Float.self), measured.elements(as: Float.self), reference.shape
    )
    add(reference, measured, rowLength: shape.last ?? 1)
  }

  private mutating func addConverted(reference: Tensor, measured: Tensor) throws(QMError) {
    let left = try reference.converted(to: .float32)
    let right = try measured.converted(to: .float32)
    add(left.elements(), right.elements(), rowLength: reference.shape.last ?? 1)
  }

  /// Adds one sample.
  /// - Parameters:
  ///   - reference: the correct elements.
  ///   - measured: the computed elements, as many.
  ///   - length: the number of elements in a row, for ``topOneAgreement``.
  public mutating func add(_ reference: [Float], _ measured: [Float], rowLength length: Int) {
    sampleCount += 1
    elementCount += reference.count
    rowLength = max(rowLength, length)
    var power = SamplePower()
    defer { samples.append(power) }
    for (r, m) in zip(reference, measured) {
      let (r, m) = (Double(r), Double(m))
      if r == m || (r.isNaN && m.isNaN) {
        if r.isFinite {
          signal += r * r
          product += r * r
          measuredPower += r * r
          power.signal += r * r
          power.sum += r
          power.count += 1
        }
        continue
      }
      let difference = abs(r - m)
      guard difference.isFinite else {
        misplacedCount += 1
        largestDifference = .infinity
        noise = .infinity
        power.noise = .infinity
        continue
      }
      largestDifference = max(largestDifference, difference)
      noise += difference * difference
      power.noise += difference * difference
      power.signal += r * r
      power.sum += r
      power.count += 1
      signal += r * r
      product += r * m
      measuredPower += m * m
    }
    guard length > 1 else { return }
    for start in stride(from: 0, to: reference.count - length + 1, by: length) {
      rowCount += 1
      let range = start..<(start + length)
      if Comparison.largest(reference[range]) == Comparison.largest(measured[range]) {
        agreeingRowCount += 1
      }
    }
  }

  /// Index of the largest element; the first if several are equal.
  private static func largest(_ row: ArraySlice<Float>) -> Int {
    var best = row.startIndex
    for index in row.indices where row[index] > row[best] { best = index }
    return best - row.startIndex
  }
}

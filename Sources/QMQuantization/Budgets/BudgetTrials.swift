import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// Conversions of one network with several numbers of bits a weight, to find the number that keeps a
/// budget of bytes or of quality.
///
/// Which numbers are tried depends on sizes and errors alone, so that the result is the same on every
/// machine. The sizes are those of whole files.
public struct BudgetTrials {
  /// A conversion that was tried.
  public struct Trial: Hashable, Sendable {
    /// Bits of a weight.
    public let bits: Double
    /// Size of the file in bytes as predicted from earlier trials; from the network, for the first.
    public let predictedByteCount: Int?
    /// Size of the file in bytes.
    public let byteCount: Int
    /// SQNR in dB as predicted from earlier trials; nil for the first.
    public let predictedSignalToNoise: Double?
    /// SQNR in dB of the worst part of an output, on the samples that judge; nil if nothing was
    /// measured.
    public let signalToNoise: Double?
    /// What the result loses as predicted from earlier trials of a search; nil if nothing tells.
    public let predictedDrop: Double?
    /// What the result loses against the float network; nil if that was not asked.
    public let drop: Double?
  }

  /// A converted network and the bytes of its file.
  public struct Result: Sendable {
    /// The conversion.
    public let conversion: Conversion
    /// Bits of a weight.
    public let bits: Double
    /// The content of the `.qm` file.
    public let file: [UInt8]
  }

  /// What was tried, in its order.
  public private(set) var trials: [Trial] = []

  private let prepared: PreparedConversion
  private let recipe: Recipe
  private let metadata: Program.Metadata
  private let probes: ProbeSamples?
  private let threads: ThreadPool
  private var sizes: RateCurve
  private var decibels = RateCurve(slope: 6.02)
  private var losses: LossCurve?

  /// Losses fall with the power of the bits, so that their logarithms are about a line: the power of an
  /// error is a quarter with each bit.
  private struct LossCurve {
    var curve: RateCurve
    /// Smaller losses than this count alike.
    let floor: Double

    /// −ln of a loss.
    func height(_ loss: Double) -> Double {
      -naturalLogarithm(max(loss < 1e6 ? loss : 1e6, floor))
    }

    func loss(at bits: Double) -> Double? {
      curve.value(at: bits).map { Comparison.ratio(ofDecibels: -10 * $0 / 2.302585092994046) }
    }
  }

  /// - Parameters:
  ///   - prepared: the network.
  ///   - recipe: that it was prepared with. The file records it with the bits that were found.
  ///   - metadata: for the files.
  ///   - probes: for the files, whose sizes count them; nil for files without.
  ///   - threads: compress the files.
  /// - Throws: `invalidInput` if a weight is not finite.
  public init(
    _ prepared: PreparedConversion, recipe: Recipe, metadata: Program.Metadata = .init(),
    probes: ProbeSamples? = nil, threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) {
    self.probes = probes
    self.prepared = prepared
    self.recipe = recipe
    self.metadata = metadata
    self.threads = threads
    let count = try prepared.weightCount()
    guard case .codes = recipe.weights, count > 0 else {
      throw .usage("no weights are rounded, so their bits decide nothing")
    }
    let bytesPerBit = Double(count) / 8
    sizes = RateCurve(
      slope: bytesPerBit, guess: (1, bytesPerBit + Double(try prepared.otherByteCount())))
  }

  /// Converts with so many bits a weight.
  /// - Parameters:
  ///   - bits: 1.5 to 8.
  ///   - drop: measures what a conversion loses; nil if that is not asked.
  ///   - progress: called with the current phase.
  /// - Throws: `usage` if the weights cannot take so few bits; errors of runs and of `drop`.
  public mutating func convert(
    bits: Double, drop: (Conversion) throws(QMError) -> Double? = { _ in nil },
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Result {
    guard let width = Recipe.WeightWidth(bits: bits) else {
      throw .usage("\(bits) bits; a weight has 1.5 to 8")
    }
    var recipe = recipe
    recipe.weights = width
    var metadata = metadata
    metadata.recipe = recipe.entries
    let conversion = try prepared.convert(width, metadata: metadata, progress: progress)
    let file = try conversion.program.encoded(
      probes: probes?.probes(of: conversion.program), threads: threads)
    let signalToNoise = conversion.worstSignalToNoise
    let trial = Trial(
      bits: bits, predictedByteCount: sizes.value(at: bits).map { Int($0) },
      byteCount: file.count, predictedSignalToNoise: decibels.value(at: bits),
      signalToNoise: signalToNoise, predictedDrop: losses?.loss(at: bits),
      drop: try drop(conversion))
    trials.append(trial)
    sizes.add(bits: bits, value: Double(file.count))
    if let signalToNoise, signalToNoise.isFinite {
      decibels.add(bits: bits, value: signalToNoise)
    }
    return Result(conversion: conversion, bits: bits, file: file)
  }

  /// The conversion with the most bits whose file has at most so many bytes, to one percent.
  /// - Parameters:
  ///   - limit: in bytes.
  ///   - drop: measures what a conversion loses; nil if that is not asked.
  ///   - progress: called with the current phase.
  /// - Throws: `usage` with the smallest size if no file is as small; errors of runs and of `drop`.
  public mutating func mostBits(
    within limit: Int, drop: (Conversion) throws(QMError) -> Double? = { _ in nil },
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Result {
    try CrossingSearch.mostBits(of: prepared.widths, within: limit, sizes: sizes) {
      (bits) throws(QMError) in
      let result = try convert(bits: bits, drop: drop, progress: progress)
      return (result, result.file.count)
    }
  }

  /// The conversion with the fewest bits that loses at most so much.
  /// - Parameters:
  ///   - limit: in the unit of `drop`.
  ///   - known: a conversion with the most bits that loses less, if there is one already.
  ///   - accepts: whether a conversion will do otherwise; more bits are tried where it will not.
  ///   - drop: measures what a conversion loses against the float network; more is worse.
  ///   - progress: called with the current phase.
  /// - Returns: nil if even the most bits lose more or will not do; ``trials`` say how much they lose.
  /// - Throws: errors of runs and of `drop`.
  public mutating func fewestBits(
    losing limit: Double, known: Result? = nil, accepts: (Conversion) -> Bool = { _ in true },
    drop: (Conversion) throws(QMError) -> Double, progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Result? {
    let widths = prepared.widths.filter(BudgetTrials.isStep)
    let least = limit > 0 ? max(limit, 1e-12) : 1e-4
    var losses = LossCurve(curve: RateCurve(slope: 1.386), floor: least / 16)
    let start = widths[(widths.count - 1) / 2]
    var search = CrossingSearch(
      widths, limit: losses.height(least),
      curve: RateCurve(slope: 1.386, guess: (start, losses.height(least))), isNoisy: true)
    var best = known
    if known != nil { search.setAbove(widths.count - 1) }
    while best == nil || trials.count < CrossingSearch.mostTrials,
      let index = search.next(towardsAbove: true)
    {
      self.losses = losses
      let result: Result
      do throws(QMError) {
        result = try convert(bits: widths[index], drop: drop, progress: progress)
      } catch {
        guard error.code == .usage else { throw error }
        search.exclude(index)
        continue
      }
      let found = trials.last?.drop ?? .infinity
      let height = losses.height(found)
      let fits = found <= limit && accepts(result.conversion)
      search.add(height, at: index, isBelow: !fits)
      losses.curve.add(bits: widths[index], value: height)
      if fits, best.map({ $0.bits > result.bits }) ?? true { best = result }
    }
    return best
  }

  /// Converts with each of the usual numbers of bits that is possible.
  /// - Parameters:
  ///   - bits: a further number of bits.
  ///   - drop: measures what a conversion loses.
  ///   - progress: called with the current phase.
  /// - Returns: the conversion with `bits`.
  /// - Throws: `usage` if the weights cannot take `bits`; errors of runs and of `drop`.
  public mutating func survey(
    _ bits: Double, drop: (Conversion) throws(QMError) -> Double? = { _ in nil },
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Result {
    let asked = try convert(bits: bits, drop: drop, progress: progress)
    for bits in BudgetTrials.usualBits where prepared.widths.contains(bits) && bits != asked.bits {
      do throws(QMError) {
        _ = try convert(bits: bits, drop: drop, progress: progress)
      } catch {
        guard error.code == .usage else { throw error }
      }
    }
    return asked
  }

  /// In an order in which each is predicted well from those before it.
  static let usualBits = [4, 3, 2, 1.5, 2.5, 5, 6, 8]

  /// Whether a search for quality tries this number of bits: quarters up to 4, halves up to 6.
  private static func isStep(_ bits: Double) -> Bool {
    let parts = bits <= 4 ? 4.0 : bits <= 6 ? 2 : 1
    return (bits * parts).rounded() == bits * parts
  }
}

extension Conversion {
  /// SQNR in dB of the worst part of an output; nil if nothing was measured.
  public var worstSignalToNoise: Double? {
    outputReports.flatMap(\.decidingFigures).map(\.signalToNoiseDecibels).min()
  }

  /// The power of the error over that of the signal: of the worst part of an output, the median over
  /// the samples; 0 if nothing was measured.
  public var errorPower: Double { OutputErrors(comparisons).medians.max() ?? 0 }

  /// Share of the rows whose highest score is at another class than in the float network, 0 to 1, of
  /// the worst output; nil if no output holds scores of classes.
  public var topOneLoss: Double? {
    comparisons.values.compactMap(\.topOneAgreement).min().map { 1 - $0 }
  }
}

import QMFormat
import QMGraph
import QMReport
import QMRuntime
import QMTensor

/// A network with the statistics of its samples, ready to be converted with any number of bits a
/// weight. The samples are run for statistics only once.
///
/// ``Converter/prepare(_:samples:progress:)`` makes it. Each conversion gives the same program as
/// ``Converter/convert(_:samples:metadata:progress:)`` with a recipe of that many bits.
public struct PreparedConversion {
  /// With the statistics of the samples, before any step.
  private let state: ConversionState
  /// Without samples: what is left if made samples fail in a step.
  private let withoutSamples: ConversionState?
  /// Why made samples could not be run; nil if they were.
  private let failure: QMError?

  init(
    _ state: ConversionState, withoutSamples: ConversionState? = nil, failure: QMError? = nil
  ) {
    self.state = state
    self.withoutSamples = withoutSamples
    self.failure = failure
  }

  /// Converts with the bits of the recipe, or with others.
  /// - Parameters:
  ///   - weights: how weights are stored; nil for what the recipe says. Codes only if the recipe has
  ///     codes.
  ///   - metadata: for the file; the measurements of the conversion are added.
  ///   - progress: called with the current phase.
  /// - Throws: `usage` if the weights cannot take so few bits; errors of runs.
  public func convert(
    _ weights: Recipe.WeightWidth? = nil, metadata: Program.Metadata = .init(),
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Conversion {
    func converted(_ state: ConversionState) throws(QMError) -> Conversion {
      var state = state
      if let weights { state.recipe.weights = weights }
      return try Converter.convert(state, metadata: metadata, progress: progress)
    }
    guard let withoutSamples else {
      var conversion = try converted(state)
      conversion.notMeasured = failure?.description
      return conversion
    }
    do throws(QMError) {
      return try converted(state)
    } catch {
      guard !error.stopsConversion else { throw error }
      var conversion = try converted(withoutSamples)
      conversion.notMeasured = error.description
      return conversion
    }
  }

  /// The conversion with other weights: those of training.
  /// - Parameters:
  ///   - conversion: one of this network, whose graph and plan were changed.
  ///   - graph: the graph of the conversion with other elements of constants.
  ///   - plan: for the graph.
  ///   - metadata: for the file; the measurements are added.
  ///   - progress: called with the current phase.
  /// - Throws: errors of runs.
  package func replacing(
    _ conversion: Conversion, graph: Graph, plan: Plan, metadata: Program.Metadata,
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Conversion {
    var state = state
    state.graph = graph
    state.plan = plan
    state.floatReasons = conversion.floatReasons
    state.alternatives = conversion.alternatives
    return try Converter.finish(state, metadata: metadata, progress: progress)
  }

  // MARK: The float network

  /// The float network.
  public var floatProgram: Program { state.graph.flattened().program }

  /// Names of the outputs whose rows are scores of classes; empty without samples.
  public var scores: Set<String> { state.reference?.judgedParts.scores ?? [] }

  /// The samples that judge, to which nothing is fitted if there are enough; nil without samples.
  public var judgingSamples: (any SampleSource)? {
    state.reference.map { $0.kept.samples(at: $0.roles.judge) }
  }

  /// Whether the conversion made the samples itself.
  var areSamplesMade: Bool { state.reference?.areMade ?? false }

  /// Options of further runs.
  var runOptions: Model.Options {
    Model.Options(threadCount: state.threads.threadCount, kernels: state.kernels)
  }

  /// The indices of ``judgingSamples`` in the source of samples; nil without one.
  public var judgingIndices: [Int]? {
    guard let reference = state.reference, !reference.areMade else { return nil }
    let indices = reference.kept.samples[reference.roles.judge].map(\.index)
    return indices.contains(nil) ? nil : indices.compactMap(\.self)
  }

  // MARK: Predictions

  /// What the usual numbers of bits near that of a conversion would give, as a search predicts its
  /// second trial from the first: bytes by the number of weights, SQNR by 6.02 dB a bit. Empty for
  /// weights that are no codes.
  /// - Parameters:
  ///   - bits: of the conversion that was made.
  ///   - byteCount: of its file.
  ///   - decibels: its SQNR; nil if nothing was measured.
  /// - Throws: `invalidInput` if a weight is not finite.
  public func predictions(
    from bits: Double, byteCount: Int, decibels: Double?
  ) throws(QMError) -> [BudgetReport.Prediction] {
    guard case .codes = state.recipe.weights else { return [] }
    let count = try weightCount()
    guard count > 0 else { return [] }
    var (sizes, ratios) = (RateCurve(slope: Double(count) / 8), RateCurve(slope: 6.02))
    sizes.add(bits: bits, value: Double(byteCount))
    if let decibels, decibels.isFinite { ratios.add(bits: bits, value: decibels) }
    let possible = widths
    return BudgetTrials.usualBits.sorted()
      .filter { $0 != bits && abs($0 - bits) <= 2 && possible.contains($0) }
      .map { other in
        .init(
          bits: other, bytes: Int(max(sizes.value(at: other) ?? 0, 0)),
          signalToNoiseDecibels: ratios.value(at: other))
      }
  }

  // MARK: Widths

  /// The widths that a search may choose, in ascending order.
  package var widths: [Double] {
    var free = state
    free.recipe.weights = .codes(1.5)
    return free.grid.widths
  }

  /// Number of the weights whose bits the recipe's width decides.
  package func weightCount() throws(QMError) -> Int {
    try state.networkWeights().filter { state.widths[$0.place.node] == nil }
      .reduce(0) { $0 + $1.tensor.weights.elementCount }
  }

  /// A guess at the bytes that the file takes apart from those weights.
  package func otherByteCount() throws(QMError) -> Int {
    let program = state.graph.flattened().program
    let constants = program.constants.reduce(0) {
      $0 + $1.tensor.byteCount
    }
    return try max(0, constants - 4 * weightCount())
      + PreparedConversion.bytesPerNode * program.nodes.count
  }

  /// About what a node, its values, names and scales take in a file.
  private static let bytesPerNode = 60
}

extension QMError {
  /// Whether an error on made inputs is no reason to convert without them: the user's mistake, or the
  /// machine's lack of memory, of which no other file may come.
  var stopsConversion: Bool { code == .usage || isLackOfMemory }
}

import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// What a step wants to be observed. One run over the samples serves all observations together.
public enum Observation: Hashable, Sendable {
  /// Smallest and largest element.
  case range(Graph.ValueID)
  /// Range and histogram.
  case histogram(Graph.ValueID)
  /// Mean at each index of the last axis.
  case means(Graph.ValueID)
  /// The same of the value rounded to a grid.
  case roundedMeans(Graph.ValueID, Plan.Grid)
}

/// Runs a float graph over samples and collects what was asked for. Memory does not grow with the
/// number of samples.
public struct Calibrator {
  private let program: Program
  private let options: Model.Options
  /// What is wanted of a value.
  private struct Wanted {
    let value: Graph.ValueID
    var range = false
    var histogram = false
    var means = false
    var grid: Plan.Grid?
  }

  /// By number in the program.
  private let observed: [Int: Wanted]

  public init(
    _ graph: Graph, observing observations: Set<Observation>,
    options: Model.Options = Model.Options()
  ) {
    self.init(graph.flattened(), observing: observations, options: options)
  }

  init(
    _ flattened: FlattenedGraph, observing observations: Set<Observation>, options: Model.Options
  ) {
    program = flattened.program
    self.options = options
    var observed: [Int: Wanted] = [:]
    for observation in observations {
      switch observation {
      case .range(let value):
        guard let number = flattened.numbers[value] else { continue }
        observed[number, default: Wanted(value: value)].range = true
      case .histogram(let value):
        guard let number = flattened.numbers[value] else { continue }
        observed[number, default: Wanted(value: value)].histogram = true
      case .means(let value):
        guard let number = flattened.numbers[value] else { continue }
        observed[number, default: Wanted(value: value)].means = true
      case .roundedMeans(let value, let grid):
        guard let number = flattened.numbers[value] else { continue }
        observed[number, default: Wanted(value: value)].grid = grid
      }
    }
    self.observed = observed
  }

  /// One pass over the samples.
  /// - Parameters:
  ///   - samples: each is run once.
  ///   - progress: called after each sample with how many are done.
  /// - Throws: what loading or running a sample throws, with the sample as context.
  public func run(
    over samples: some SampleSource, progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) -> Statistics {
    guard samples.count > 0 else { return Statistics() }
    return try run(SampleRuns(program, over: samples, options: options)) { (index, _) in
      progress(index + 1)
    }
  }

  /// One pass over the samples.
  /// - Parameters:
  ///   - runs: of the program that this graph flattens to.
  ///   - take: called with the outputs of each sample, in their order.
  func run(
    _ runs: SampleRuns, take: (_ index: Int, _ outputs: [String: Tensor]) -> Void
  ) throws(QMError) -> Statistics {
    let samples = runs.samples
    // Statistics merge to the same whichever thread saw a sample.
    let parts = (0..<runs.workerCount).map { _ in Part() }
    try runs.forEach(
      samples.count,
      run: { (index, session, worker) throws(QMError) in
        try within(.sample(samples.name(of: index))) { () throws(QMError) in
          try session.run(
            samples.inputs(of: index),
            observing: { (number, view) throws(QMError) in
              if let wanted = observed[number] { parts[worker].add(view, wanted) }
            })
        }
      }, take: take)
    var statistics = Statistics()
    for part in parts { statistics.merge(part.statistics) }
    statistics.sampleCount = samples.count
    return statistics
  }

  /// What one thread sees.
  private final class Part {
    var statistics = Statistics()

    func add(_ view: ValueView, _ wanted: Wanted) {
      guard view.elementType == .float32 else { return }
      let elements = view.elements(as: Float.self)
      let channelCount = view.shape.last ?? 1
      if wanted.range || wanted.histogram {
        statistics.values[
          wanted.value, default: ValueStatistics(withHistogram: wanted.histogram)
        ].add(elements)
      }
      if wanted.means {
        statistics.means[wanted.value, default: ChannelMeans(channelCount: channelCount)]
          .add(elements)
      }
      if let grid = wanted.grid {
        statistics.roundedMeans[wanted.value, default: ChannelMeans(channelCount: channelCount)]
          .add(elements, on: grid)
      }
    }
  }
}

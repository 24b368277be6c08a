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

/// Samples that can be gone through once, one at a time.
public protocol SampleSource {
  var count: Int { get }
  /// Input tensors by name, of sample `index`.
  func inputs(of index: Int) throws(QMError) -> [String: Tensor]
  /// What the user calls it.
  func name(of index: Int) -> String
}

/// Runs a float graph over samples and collects what was asked for. Memory does not grow with the
/// number of samples.
public struct Calibrator {
  private let session: Session
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
  ) throws(QMError) {
    let flattened = graph.flattened()
    session = Session(try Model(flattened.program, options: options))
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
  /// - Parameter progress: called after each sample with how many are done.
  /// - Throws: what loading or running a sample throws, with the sample as context.
  public func run(
    over samples: some SampleSource, progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) -> Statistics {
    var statistics = Statistics()
    for index in 0..<samples.count {
      try within(.sample(samples.name(of: index))) { () throws(QMError) in
        let inputs = try samples.inputs(of: index)
        _ = try session.run(
          inputs,
          observing: { (number, view) throws(QMError) in
            guard view.elementType == .float32, let wanted = observed[number] else { return }
            let elements = UnsafeBufferPointer(view.elements(as: Float.self))
            if wanted.range || wanted.histogram {
              statistics.values[
                wanted.value, default: ValueStatistics(withHistogram: wanted.histogram)
              ].add(elements)
            }
            if wanted.means {
              statistics.means[
                wanted.value, default: ChannelMeans(channelCount: view.shape.last ?? 1)
              ].add(elements)
            }
            if let grid = wanted.grid {
              var rounded = Array(elements)
              rounded.withUnsafeMutableBufferPointer { grid.round($0) }
              rounded.withUnsafeBufferPointer { rounded in
                statistics.roundedMeans[
                  wanted.value, default: ChannelMeans(channelCount: view.shape.last ?? 1)
                ].add(rounded)
              }
            }
          })
      }
      statistics.sampleCount += 1
      progress(index + 1)
    }
    return statistics
  }
}

/// What the caller can do about a ``QMError``, as a value: a program may act on it, a command-line
/// tool can name its option, an app its button.
///
/// If an error has several remedies, each of them helps on its own.
public enum Remedy: Hashable, Sendable {
  /// Give samples of the network's inputs, so that ranges and quality can be measured.
  case giveSamples
  /// Convert the network again, with probes in the file.
  case convertWithProbes
  /// Collect the network's statistics on its samples again, with this version.
  case observeAgain
  /// Quantize activations with the ranges of each run instead of fixed ranges.
  case useDynamicActivations
  /// Choose fixed ranges with the range estimator of this name.
  case useRanges(String)
  /// Give each weight at least this many bits.
  case useBits(Int)
  /// Give each channel of a weight tensor its own scale.
  case useScalesPerChannel
  /// Request a lower quality, or none.
  case acceptQuality
  /// Make an input of the node an output of the graph, and leave the node out.
  case cutBefore
  /// Make the result of the node an input of the graph, and leave the node out.
  case cutAfter
  /// State the shape of the input of this name.
  case stateShape(of: String)
  /// State a property of the samples' preprocessing, by its name: "size".
  case statePreprocessing(String)
  /// Give inputs a constant value; `which` names them: "the condition's inputs".
  case setInputs(which: String)
  /// List the nodes by their names in the simplified graph.
  case listNodes
  /// Change the network outside of this package; `how` says how, as a sentence without its full
  /// stop: "export the model with the loop unrolled".
  case changeModel(how: String)
}

extension Remedy: CustomStringConvertible {
  /// The remedy as part of a sentence, independent of any tool.
  public var description: String {
    switch self {
    case .giveSamples: "give samples"
    case .convertWithProbes: "convert the network again with probes"
    case .observeAgain: "observe the network again"
    case .useDynamicActivations: "use dynamic activations"
    case .useRanges(let name): "use the range estimator '\(name.abbreviated)'"
    case .useBits(let bits): "use \(bits) bits"
    case .useScalesPerChannel: "use scales per channel"
    case .acceptQuality: "request a lower quality"
    case .cutBefore: "cut the graph before it"
    case .cutAfter: "make its result an input of the graph"
    case .stateShape: "state its shape"
    case .statePreprocessing(let property): "state the \(property.abbreviated) of the samples"
    case .setInputs(let which): "give \(which) a value"
    case .listNodes: "list the nodes of the simplified graph"
    case .changeModel(let how): how
    }
  }
}

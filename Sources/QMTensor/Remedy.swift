/// What the caller can do about a ``QMError``, as a value: a program may act on it, a command-line
/// tool names its option, an app its button.
///
/// Where several remedies stand in one error, each of them helps alone.
public enum Remedy: Hashable, Sendable {
  /// Give samples of the network's inputs, so that ranges and quality can be measured.
  case giveSamples
  /// Observe the network on its samples once more, with this version.
  case observeAgain
  /// Quantize activations with the ranges of each run instead of fixed ones.
  case useDynamicActivations
  /// Find fixed ranges in another way, the range estimator of this name.
  case useRanges(String)
  /// Give each weight at least this many bits.
  case useBits(Int)
  /// Give each channel of a weight tensor a scale of its own.
  case useScalesPerChannel
  /// Ask for less quality, or for none.
  case acceptQuality
  /// Make an output of a value in front of the node, and leave the node out.
  case cutBefore
  /// Make an input of the result of the node, and leave the node out.
  case cutAfter
  /// State the shape of the input of this name.
  case stateShape(of: String)
  /// Make constants of inputs; `which` says of which: "the condition's inputs".
  case setInputs(which: String)
  /// List the nodes by the names that they have once the graph is simplified.
  case listNodes
  /// Change the network outside of this package; `how` says how, as a sentence without its stop:
  /// "export the model with the loop unrolled".
  case changeModel(how: String)
}

extension Remedy: CustomStringConvertible {
  /// The remedy as part of a sentence, in words of no particular tool or language.
  public var description: String {
    switch self {
    case .giveSamples: "give samples"
    case .observeAgain: "observe the network again"
    case .useDynamicActivations: "use dynamic activations"
    case .useRanges(let name): "use the ranges '\(name.abbreviated)'"
    case .useBits(let bits): "use \(bits) bits"
    case .useScalesPerChannel: "use scales per channel"
    case .acceptQuality: "ask for less quality"
    case .cutBefore: "cut the graph before it"
    case .cutAfter: "make its result an input of the graph"
    case .stateShape: "state its shape"
    case .setInputs(let which): "give \(which) a value"
    case .listNodes: "list the nodes as they are after the passes"
    case .changeModel(let how): how
    }
  }
}

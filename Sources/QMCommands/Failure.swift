import QMTensor

extension QMError {
  /// The line that a tool prints, with remedies as command-line options.
  var line: String { description { $0.withOptions } }
}

extension QMError.Code {
  /// The exit status of the tools; from 64 on as in sysexits(3).
  var exitStatus: Int32 {
    switch self {
    case .outOfTolerance: 1
    case .qualityTooLow: 2
    case .usage: 64
    case .malformed, .unsupported, .invalidInput: 65
    case .cannotOpen: 66
    case .cannotWrite: 73
    // `internalFault`, `outOfMemory`, and codes that later versions add.
    default: 70
    }
  }
}

extension Remedy {
  /// The remedy as part of a sentence, with the option to use.
  fileprivate var withOptions: String {
    switch self {
    case .giveSamples: "give --samples"
    case .convertWithProbes: "convert again with qconvert --probes 4"
    case .observeAgain: "observe the network again with --observe-only"
    case .useDynamicActivations: "use --activations dynamic"
    case .useRanges(let name): "use --ranges \(name)"
    case .useBits(let bits): "use --bits \(bits)"
    case .useScalesPerChannel: "leave out --per-tensor"
    case .acceptQuality: "accept it with --min-sqnr 0"
    case .cutBefore: "cut the graph before it with --output"
    case .cutAfter: "make its result an input of the graph with --input"
    case .stateShape(let name): "state its shape: --input '\(name.abbreviated)=1,3,height,width'"
    case .statePreprocessing(let property): "state it with --\(property.abbreviated)"
    case .setInputs(let which): "give \(which) a value with --set"
    case .listNodes: "--explain lists the nodes of the simplified graph"
    case .changeModel(let how): how
    }
  }
}

import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// Reading and observing the network of a conversion.
extension ConvertCommand {
  func readNetwork(
    _ recipe: Recipe, _ console: Console
  ) throws(QMError) -> (graph: Graph, source: Buffer) {
    console.progress("reading")
    let source = try Buffer.mapping(path: input)
    var changes = try NetworkOptions.changes(recipe.network)
    if let weights { changes.weights = try CheckpointFile.weights(path: weights, console) }
    let (graph, information) = try ONNXReader.readWithInformation(path: input, changes: changes)
    for name in information.misdeclaredOutputs {
      console.note("output '\(name)' is declared with another shape than the network computes")
    }
    Network.noteConvertedTypes(information, console)
    if graph.isQuantized {
      console.note(
        "the network is quantized already: its codes are kept, and what it leaves in float32 stays float32"
      )
    }
    return (graph, source)
  }

  func readSamples(
    of graph: Graph, _ console: Console
  ) throws(QMError) -> (any SampleSource)? {
    let folder = try samples.map { (path) throws(QMError) in
      try Samples.open(path, for: graph, sampling)
    }
    try folder?.examine(for: graph, console)
    return folder
  }

  func converter(_ recipe: Recipe) -> Converter {
    var options = machine.modelOptions
    options.threadCount = machine.conversionThreads
    return Converter(
      recipe: recipe, options: options,
      memoryBudget: memoryBudget.map { $0.multipliedReportingOverflow(by: 1_000_000).partialValue })
  }

  /// What the file says about its origin.
  func metadata(
    of graph: Graph, _ recipe: Recipe, _ source: Buffer
  ) throws(QMError) -> Program.Metadata {
    // Without the source's name, so that a network gives the same file whatever its name.
    var metadata = Program.Metadata(producer: "swift-qm \(toolVersion)")
    var digest = Digest()
    digest.update(UnsafeRawBufferPointer(source.bytes))
    metadata.sourceDigest = digest.finished()
    metadata.recipe = recipe.entries
    if let weights {
      metadata.entries.append(.init("weights", try CheckpointFile.digest(weights)))
    }
    metadata.inputKeys = graph.inputs.map { sampleKey(for: graph[$0].name) }
    metadata.outputKeys = graph.outputs.map { sampleKey(for: $0.name) }
    return metadata
  }

  /// A network that was read and observed.
  struct PreparedNetwork {
    let prepared: PreparedConversion
    /// With everything that depends on the network.
    let recipe: Recipe
    let metadata: Program.Metadata
    /// Size of its file.
    let byteCount: Int
    /// The samples that were observed; nil if statistics were read from files, or without samples.
    let samples: (any SampleSource)?
  }

  func readPrepared(_ requested: Recipe, _ console: Console) throws(QMError) -> PreparedNetwork {
    let (graph, source) = try readNetwork(requested, console)
    let recipe = requested.resolved(for: graph, hasSamples: hasSamples)
    let metadata = try metadata(of: graph, recipe, source)
    let observations =
      statistics.isEmpty ? nil : try Observations(contentsOf: statistics)
    let samples = try readSamples(of: graph, console)
    let prepared = try within(.file(input)) { () throws(QMError) in
      let progress = { (phase: Conversion.Phase) in ConvertCommand.show(phase, console) }
      if let observations {
        return try converter(recipe).prepare(graph, observations: observations, progress: progress)
      }
      return try converter(recipe).prepare(graph, samples: samples, progress: progress)
    }
    return PreparedNetwork(
      prepared: prepared, recipe: recipe, metadata: metadata, byteCount: source.count,
      samples: samples)
  }
}

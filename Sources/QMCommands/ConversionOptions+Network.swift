import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor

/// Reading and converting a network.
extension ConversionOptions {
  /// The network, cut and with other constants as the options say.
  func readNetwork(
    _ input: String, _ recipe: Recipe, _ console: Console
  ) throws(QMError) -> (graph: Graph, source: SourceFile) {
    console.progress("reading")
    let source = try SourceFile(path: input)
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

  func converter(_ recipe: Recipe, _ machine: MachineOptions) -> Converter {
    var options = machine.modelOptions
    options.threadCount = machine.conversionThreads
    return Converter(
      recipe: recipe, options: options,
      memoryBudget: memoryBudget.map { $0.multipliedReportingOverflow(by: 1_000_000).partialValue })
  }

  /// What the file says about its origin.
  func metadata(
    of graph: Graph, _ recipe: Recipe, _ source: SourceFile
  ) throws(QMError) -> Program.Metadata {
    // Without the source's name, so that a network gives the same file whatever its name.
    var metadata = Program.Metadata(producer: "swift-qm \(toolVersion)")
    metadata.sourceDigest = source.digest
    metadata.recipe = recipe.entries
    if let weights {
      metadata.entries.append(.init("weights", try SourceFile(path: weights).digest.hexadecimal))
    }
    metadata.inputKeys = graph.inputs.map { sampleKey(for: graph[$0].name) }
    metadata.outputKeys = graph.outputs.map { sampleKey(for: $0.name) }
    return metadata
  }
}

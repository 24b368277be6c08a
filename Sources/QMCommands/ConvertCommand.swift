import ArgumentParser
import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// `qconvert`: a float network made small.
public struct ConvertCommand: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "qconvert",
    abstract: "Convert a float network (.onnx), or arrays (.npz, .npy), into a small file (.qm).",
    discussion: """
      With --samples the ranges of all values are measured, activations become int8, and the result \
      is compared with the float network. Without, activations are quantized at run time. Parts of \
      the samples can be observed apart, --observe-only, and converted with together, --statistics.
      """,
    version: toolVersion)

  @Argument(help: ArgumentHelp("The float network, or a checkpoint.", valueName: "in.onnx|in.npz"))
  var input: String

  @Argument(help: ArgumentHelp("The file to write.", valueName: "out.qm"))
  var output: String?

  @Option(
    help: ArgumentHelp(
      "Constants of the network to replace, by their names.", valueName: "checkpoint.npz"))
  var weights: String?

  @Option(help: "Bits of a weight, 2 to 8; 32 keeps the network in float. 8 unless given.")
  var bits: Int?

  @Option(help: ArgumentHelp("Folder of samples of the network's inputs.", valueName: "folder"))
  var samples: String?

  @Option(help: "Take this many of the samples, evenly over all.")
  var limitSamples: Int?

  @Option(
    help: ArgumentHelp(
      "Observe the network on the samples, write what it shows, and convert nothing.",
      valueName: "part.qstats"))
  var observeOnly: String?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "What --observe-only wrote, instead of samples: all parts, in any order.",
      valueName: "part.qstats"))
  var statistics: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      Megabytes that sums over samples may take at a time, a quarter of the machine's memory unless \
      given. Less takes more runs over the samples and gives the same bytes.
      """,
      valueName: "MB"))
  var memoryBudget: Int?

  @Option(help: "How activations feed the products: int8, dynamic or float.")
  var activations: Recipe.Activations?

  @Option(
    help: ArgumentHelp(
      "How a range is found: minmax (unless given), percentile[:99.99] or mse.",
      valueName: "estimator"))
  var ranges: RangeEstimator?

  @Flag(help: "One scale for a whole weight tensor instead of one per channel.")
  var perTensor = false

  @Option(
    help: ArgumentHelp(
      "Scales of their own for every N channels of a product's input; it runs slower.",
      valueName: "N"))
  var groupSize: Int?

  @Option(
    help: ArgumentHelp(
      "Run the nodes with such names in float32, weights included; repeat it for several.",
      valueName: "regex"))
  var keepFloat: [String] = []

  @Option(
    help: ArgumentHelp(
      "Another width for the weights of the nodes with such names; repeat it for several.",
      valueName: "regex=bits"))
  var bitsFor: [String] = []

  @Option(
    name: .customLong("min-sqnr"),
    help: ArgumentHelp(
      """
      Write nothing if an output's signal-to-noise ratio is lower; 0 accepts anything. A network's \
      is 10 unless given, arrays are asked for nothing.
      """,
      valueName: "dB"))
  var leastSignalToNoise: Double?

  @Option(
    name: .customLong("recipe"),
    help: ArgumentHelp(
      "Take what is asked for from a file, as --print-recipe shows it; other options go before it.",
      valueName: "recipe.json"))
  var recipeFile: String?

  @Flag(help: "Print the recipe that the other options make, and convert nothing.")
  var printRecipe = false

  @Flag(help: "Say of every node how it runs, and why.")
  var explain = false

  @Flag(help: "Print the operators that can be read, and how each runs; alone.")
  var listOperators = false

  @OptionGroup var network: NetworkOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var console: ConsoleOptions

  public init() {}

  public func validate() throws {
    if let bits, Recipe.WeightWidth(bits: bits) == nil {
      throw ValidationError("--bits is 2 to 8, or 32 for float; found \(bits)")
    }
    if let leastSignalToNoise, !leastSignalToNoise.isFinite {
      throw ValidationError("--min-sqnr is a finite number of dB; found \(leastSignalToNoise)")
    }
    if let limitSamples, limitSamples < 1 {
      throw ValidationError("--limit-samples is at least 1; found \(limitSamples)")
    }
    if limitSamples != nil, samples == nil {
      throw ValidationError("--limit-samples needs --samples")
    }
    if let memoryBudget, !(1...1 << 40).contains(memoryBudget) {
      throw ValidationError("--memory-budget is at least 1 megabyte; found \(memoryBudget)")
    }
    if !statistics.isEmpty, samples != nil {
      throw ValidationError("--statistics stands in the place of --samples; leave one out")
    }
    if observeOnly != nil {
      guard output == nil, samples != nil else {
        throw ValidationError("--observe-only needs --samples, and no file to convert to")
      }
    } else if output == nil, !printRecipe {
      throw ValidationError("the file to write is missing: qconvert \(input) out.qm")
    }
    if let groupSize, groupSize < 1 || perTensor {
      throw ValidationError("--group-size is at least 1, and not beside --per-tensor")
    }
  }

  public func run() throws {
    let console = Console(tool: "qconvert", self.console)
    let clock = ContinuousClock()
    let start = clock.now
    let asked = try recipe()
    if printRecipe {
      for line in asked.json.split(separator: "\n") { console.line(String(line)) }
      return try console.finish()
    }
    if let observeOnly { return try observe(to: observeOnly, asked, console) }
    guard let output else { throw QMError.usage("the file to write is missing") }
    let recipe = asked.resolved(hasSamples: hasSamples)
    guard !Process.isSameFile(input, output) else {
      throw QMError.usage("the output is the input; give another name").within(.file(output))
    }
    // Before an hour of work is spent: whether the result can be written at all.
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: output) }
    if CheckpointFile.isOne(input) { return try convertCheckpoint(asked, to: output, console) }
    guard hasSamples || (leastSignalToNoise ?? 0) <= 0 else {
      throw QMError.usage("--min-sqnr needs --samples to measure a network on")
    }

    let (graph, source) = try readNetwork(recipe, console)
    let conversion = try convert(graph, recipe, source, console)
    let reports = conversion.outputReports
    try requireQuality(reports, of: recipe)

    console.progress("writing")
    let bytes = try within(.file(input)) { () throws(QMError) in
      try conversion.program.encoded(threads: ThreadPool(threadCount: machine.conversionThreads))
    }
    try Process.uninterrupted { () throws(QMError) in try AtomicFile.write(bytes, to: output) }
    let seconds = (clock.now - start).seconds

    let report = ConversionReport(
      source: .init(path: input, bytes: source.count),
      output: .init(path: output, bytes: bytes.count), bits: recipe.weights.bits,
      activations: (recipe.activations ?? .dynamic).rawValue,
      ranges: recipe.activations == .int8 ? recipe.rangeEstimator.description : nil,
      samples: conversion.sampleCount, outputs: reports,
      kept: conversion.floatValues.map { .init(value: $0.value, reason: $0.reason) },
      nodes: explain ? NodeReport.all(of: conversion.program) : nil, seconds: seconds)
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  /// Whether there is something to fix ranges and to measure with.
  var hasSamples: Bool { samples != nil || !statistics.isEmpty }

  private func readNetwork(
    _ recipe: Recipe, _ console: Console
  ) throws(QMError) -> (graph: Graph, source: Buffer) {
    console.progress("reading")
    let source = try Buffer.mapping(path: input)
    var changes = try NetworkOptions.changes(recipe.network)
    if let weights { changes.weights = try CheckpointFile.weights(path: weights) }
    let (graph, information) = try ONNXReader.readWithInformation(path: input, changes: changes)
    for name in information.misdeclaredOutputs {
      console.note("output '\(name)' is declared with another shape than the network computes")
    }
    return (graph, source)
  }

  private func readSamples(
    of graph: Graph, _ console: Console
  ) throws(QMError) -> (any SampleSource)? {
    let folder = try samples.map { (path) throws(QMError) in
      try Samples.open(path, for: graph, limit: limitSamples)
    }
    try folder?.examine(for: graph, console)
    return folder
  }

  private func converter(_ recipe: Recipe) -> Converter {
    var options = machine.modelOptions
    options.threadCount = machine.conversionThreads
    return Converter(
      recipe: recipe, options: options,
      memoryBudget: memoryBudget.map { $0.multipliedReportingOverflow(by: 1_000_000).partialValue })
  }

  private func observe(to path: String, _ recipe: Recipe, _ console: Console) throws {
    guard !CheckpointFile.isOne(input) else {
      throw QMError.usage("arrays run on no samples; give a network").within(.file(input))
    }
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: path) }
    let (graph, _) = try readNetwork(recipe, console)
    guard let samples = try readSamples(of: graph, console) else { return }
    try within(.file(input)) { () throws(QMError) in
      try converter(recipe).observe(graph, samples: samples, to: path) { phase in
        ConvertCommand.show(phase, console)
      }
    }
    console.line("\(Units.count(samples.count, "sample")) observed, written to \(path)")
    try console.finish()
  }

  private func convert(
    _ graph: Graph, _ recipe: Recipe, _ source: Buffer, _ console: Console
  ) throws(QMError) -> Conversion {
    // Not the source's name: the same network gives the same file, wherever it lies.
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
    let converter = converter(recipe)
    if !statistics.isEmpty {
      let observations = try Observations(contentsOf: statistics)
      return try within(.file(input)) { () throws(QMError) in
        try converter.convert(graph, observations: observations, metadata: metadata) { phase in
          ConvertCommand.show(phase, console)
        }
      }
    }
    let samples = try readSamples(of: graph, console)
    return try within(.file(input)) { () throws(QMError) in
      try converter.convert(graph, samples: samples, metadata: metadata) { phase in
        ConvertCommand.show(phase, console)
      }
    }
  }

  private static func show(_ phase: Conversion.Phase, _ console: Console) {
    switch phase {
    case .simplifying: console.progress("simplifying")
    case .calibrating(let done, let total): console.progress("calibrating", done: done, of: total)
    case .testing(let done, let total):
      console.progress("testing activations", done: done, of: total)
    case .rounding: console.progress("rounding")
    case .measuring(let done, let total): console.progress("measuring", done: done, of: total)
    }
  }

  // MARK: Report

  private func show(_ report: ConversionReport, _ console: Console) {
    if let nodes = report.nodes {
      console.table(of: nodes)
      if !report.kept.isEmpty {
        console.table(
          ["stays float32", "why"], report.kept.map { [$0.value.abbreviated, $0.reason] })
      }
    } else if !report.kept.isEmpty {
      console.line(
        "\(Units.count(report.kept.count, "value")) kept in float32; --explain says which and why")
    }
    console.line(
      "\(Units.bytes(report.source.bytes)) → \(Units.bytes(report.output.bytes)), "
        + "\(Units.fixed(report.ratio, 2)) times smaller, in \(Units.seconds(report.seconds))")
    let width = report.bits == 32 ? "float32 weights" : "\(report.bits)-bit weights"
    let seen = report.samples > 0 ? ", \(Units.count(report.samples, "sample"))" : ""
    let found = report.ranges.map { ", ranges by \($0)" } ?? ""
    console.line("\(width), \(report.activations) activations\(found)\(seen)")
    if report.outputs.isEmpty {
      console.line("accuracy was not measured: give --samples, or qverify --reference")
    } else {
      console.table(of: report.outputs)
    }
    console.line("written to \(report.output.path)")
  }
}

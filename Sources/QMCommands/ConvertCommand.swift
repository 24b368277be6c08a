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

/// `qconvert`: converts a float network, or a checkpoint, to a `.qm` file.
public struct ConvertCommand: ToolCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qconvert",
    abstract: "Convert a float network (.onnx), or arrays (.npz, .npy), to a small file (.qm).",
    discussion: """
      With --samples, the ranges of all values are measured, activations become int8, and the \
      result is compared with the float network. Without samples, weights are rounded and the \
      result is compared on inputs made from noise, and activations are quantized with the ranges \
      of each run. Large sets of samples can be observed in parts with --observe-only; \
      --statistics converts with all parts.

      Examples:
        qconvert in.onnx out.qm --bits 4 --samples calib/
        qconvert in.onnx out.qm --samples calib/ --target-size 1.5MB
      """,
    version: toolVersion)

  @Argument(
    help: ArgumentHelp("The float network, or a checkpoint.", valueName: "in.onnx|in.npz"),
    completion: .file())
  var input: String

  @Argument(help: ArgumentHelp("The file to write.", valueName: "out.qm"), completion: .file())
  var output: String?

  @Option(
    help: """
      Bits per weight in the file, on average and at most: 1.5 to 8, also fractions; 16 stores \
      float16, 32 keeps the network in float. Default: 8.
      """)
  var bits: Double?

  @Option(
    help: ArgumentHelp(
      "Samples of the network's inputs: a folder, or one file.", valueName: "folder|in.npz"),
    completion: .file())
  var samples: String?

  @Option(
    help: ArgumentHelp(
      "Collect statistics of the network on the samples, write them, and do not convert.",
      valueName: "part.qstats"),
    completion: .file())
  var observeOnly: String?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Files that --observe-only wrote, instead of samples: all parts, in any order.",
      valueName: "part.qstats"),
    completion: .file())
  var statistics: [String] = []

  @Flag(help: "Print the recipe of the other options, and do not convert.")
  var printRecipe = false

  @Flag(help: "Print how each node runs, and why.")
  var explain = false

  @Flag(help: "Print all supported operators and how each runs; no other argument is allowed.")
  var listOperators = false

  @OptionGroup var options: ConversionOptions
  @OptionGroup var budget: BudgetOptions
  @OptionGroup var sampling: SampleOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var report: ReportOptions
  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Checks the options that do not depend on files.
  public func checkOptions() throws {
    if let bits, Recipe.WeightWidth(bits: bits) == nil {
      throw ValidationError("--bits \(bits): expected 1.5 to 8, 16, or 32 for float")
    }
    if !sampling.isEmpty, samples == nil {
      throw ValidationError("options of samples need --samples")
    }
    if !statistics.isEmpty, samples != nil {
      throw ValidationError("--statistics replaces --samples; leave one out")
    }
    if observeOnly != nil {
      guard output == nil, samples != nil else {
        throw ValidationError("--observe-only needs --samples, and no output file")
      }
    } else if output == nil, !printRecipe, !budget.dryRun {
      throw ValidationError("missing output file; for example: qconvert \(input) out.qm")
    }
    if options.probes > 0, observeOnly != nil || printRecipe {
      throw ValidationError(
        "--probes are of a conversion; leave out --observe-only and --print-recipe")
    }
    if report.isAsked, observeOnly != nil || printRecipe {
      throw ValidationError(
        "--report is of a conversion; leave out --observe-only and --print-recipe")
    }
    if budget.isSearch, bits != nil {
      throw ValidationError("--target-size and --max-drop choose the bits; leave out --bits")
    }
    if budget.isSearch || budget.dryRun, observeOnly != nil || printRecipe {
      throw ValidationError(
        "budgets and dry runs convert; leave out --observe-only and --print-recipe")
    }
    if budget.metrics.maxDrop != nil || budget.metrics.metric != nil,
      !hasSamples, budget.metricSamples == nil
    {
      throw ValidationError("--max-drop and --metric need --samples, or --metric-samples")
    }
    if budget.metrics.maxDrop != nil, budget.metrics.metric == nil, !hasSamples {
      throw ValidationError("--max-drop without --metric needs --samples")
    }
  }

  /// Converts, and prints the report.
  public func run() throws {
    let console = Console(tool: "qconvert", self.console)
    let clock = ContinuousClock()
    let start = clock.now
    let requested = try options.recipe(bits: bits, hasSamples: hasSamples)
    if printRecipe {
      for line in requested.json.split(separator: "\n") { console.line(String(line)) }
      return try console.finish()
    }
    for file in [observeOnly ?? output, report.path] {
      if let file { try requireNoInput(file) }
    }
    try report.requireWritable(besides: [output])
    if let observeOnly { return try observe(to: observeOnly, requested, console) }
    if budget.dryRun { return try dryRun(requested, start, console) }
    guard let output else { throw QMError.usage("missing output file") }
    guard !output.lowercased().hasSuffix(".onnx") else {
      throw QMError.usage(
        "the output is not an .onnx file; give it a name that ends in .qm"
      ).within(.file(output))
    }
    // Checks that the file can be written before a long conversion.
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: output) }
    if CheckpointFile.isOne(input) {
      guard options.probes == 0 else {
        throw QMError.usage("--probes are of a network, found arrays").within(.file(input))
      }
      return try convertCheckpoint(requested, to: output, console)
    }

    let network = try readPrepared(requested, console)
    var recipe = network.recipe
    let (conversion, bytes, budget) = try within(.file(input)) { () throws(QMError) in
      try convert(network, console)
    }
    if let bits = budget?.bits, let width = Recipe.WeightWidth(bits: bits) {
      recipe.weights = width
    }
    let reports = conversion.outputReports
    try QualityCheck(recipe, of: input, canChooseBits: !self.budget.isSearch).require(
      conversion, console)
    let details = try report.isAsked ? details(of: conversion, bytes, network, console) : nil

    console.progress("writing")
    try Process.uninterrupted { () throws(QMError) in try AtomicFile.write(bytes, to: output) }
    let seconds = (clock.now - start).seconds

    let converted = ConversionReport(
      source: .init(path: input, bytes: network.byteCount),
      output: .init(path: output, bytes: bytes.count), bits: recipe.weights.bits,
      effort: recipe.effort.rawValue, activations: (recipe.activations ?? .dynamic).rawValue,
      ranges: recipe.activations == .int8 ? recipe.rangeEstimator.description : nil,
      samples: conversion.areSamplesMade ? 0 : conversion.sampleCount,
      madeInputs: conversion.areSamplesMade ? conversion.sampleCount : 0, outputs: reports,
      notMeasured: conversion.notMeasured, probes: network.probes?.count,
      isJudgedOnFittedSamples: conversion.isJudgedOnFittedSamples,
      kept: conversion.floatValues.map { .init(value: $0.value, reason: $0.reason) },
      alternatives: conversion.alternatives.map(\.report), budget: budget,
      predictions: details?.predictions,
      nodes: explain || report.isAsked ? NodeReport.all(of: conversion.program) : nil,
      values: details?.values, weights: details?.weights, seconds: seconds)
    show(converted, console)
    try report.write(converted, console)
    try console.json(converted)
    try console.finish()
  }

  /// - Throws: `usage` if the file is one that the command reads.
  private func requireNoInput(_ file: String) throws(QMError) {
    var inputs =
      [input] + [options.weights, options.recipeFile, samples].compactMap { $0 } + statistics
    if let samples, let names = try? Folder.names(in: samples, expected: "") {
      inputs += names.map { Folder.path(samples, $0) }
    }
    guard !inputs.contains(where: { Process.isSameFile($0, file) }) else {
      throw QMError.usage("the output is an input of the command; give another name")
        .within(.file(file))
    }
  }

  /// Whether samples, or statistics from samples, are given.
  var hasSamples: Bool { samples != nil || !statistics.isEmpty }

  private func observe(to path: String, _ recipe: Recipe, _ console: Console) throws {
    guard !CheckpointFile.isOne(input) else {
      throw QMError.usage("--observe-only needs a network, found arrays").within(.file(input))
    }
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: path) }
    let (graph, _) = try options.readNetwork(input, recipe, console)
    guard let samples = try readSamples(of: graph, console) else { return }
    try within(.file(input)) { () throws(QMError) in
      try options.converter(recipe, machine).observe(
        graph, samples: samples.source, entries: samples.entries, to: path
      ) { phase in
        console.progress(phase)
      }
    }
    console.line("\(Units.count(samples.source.count, "sample")) observed, written to \(path)")
    try console.finish()
  }

  /// Converts with the bits of the recipe, or with those that keep the budget.
  private func convert(
    _ network: PreparedNetwork, _ console: Console
  ) throws(QMError) -> (Conversion, file: [UInt8], BudgetReport?) {
    if budget.isSearch {
      let (result, report) = try search(network, console)
      return (result.conversion, result.file, report)
    }
    let conversion = try network.prepared.convert(metadata: network.metadata) { phase in
      console.progress(phase)
    }
    console.progress("compressing")
    let threads = ThreadPool(threadCount: machine.conversionThreads)
    let file = try conversion.program.encoded(
      probes: network.probes?.probes(of: conversion.program), threads: threads)
    return (conversion, file, nil)
  }

  // MARK: Report

  private func show(_ report: ConversionReport, _ console: Console) {
    if explain, let nodes = report.nodes {
      console.table(of: nodes)
      if !report.kept.isEmpty {
        console.table(
          ["stays float32", "why"], report.kept.map { [$0.value.abbreviated, $0.reason] })
      }
      if !report.alternatives.isEmpty { console.table(of: report.alternatives) }
    } else if !report.kept.isEmpty {
      console.line(
        "\(Units.count(report.kept.count, "value")) kept in float32; --explain lists them and why")
    }
    console.line(
      "\(Units.bytes(report.source.bytes)) → \(Units.bytes(report.output.bytes)), "
        + "\(Units.fixed(report.ratio, 2)) times smaller, in \(Units.seconds(report.seconds))")
    let bits = Units.shortest(report.bits)
    let width = report.bits > 8 ? "float\(bits) weights" : "\(bits)-bit weights"
    let seen = report.samples > 0 ? ", \(Units.count(report.samples, "sample"))" : ""
    let made = report.madeInputs > 0 ? ", \(report.madeInputs) inputs made from noise" : ""
    let found = report.ranges.map { ", ranges by \($0)" } ?? ""
    let effort = report.effort == Recipe.Effort.standard.rawValue ? "" : ", effort \(report.effort)"
    console.line("\(width), \(report.activations) activations\(found)\(seen)\(made)\(effort)")
    if let budget = report.budget { show(budget, console) }
    if report.outputs.isEmpty {
      let reason = report.notMeasured.map { " (no made input serves: \($0))" } ?? ""
      console.line("accuracy was not measured\(reason): give --samples, or use qverify --reference")
    } else {
      if report.madeInputs > 0 {
        console.line("measured on made inputs, which does not bound real ones: give --samples")
      }
      if report.isJudgedOnFittedSamples {
        console.line("measured on the samples that ranges were fitted to: there are fewer than 8")
      }
      console.table(of: report.outputs)
    }
    console.showProbes(report.probes, asked: options.probes)
    console.line("written to \(report.output.path)")
  }
}

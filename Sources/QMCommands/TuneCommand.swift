import ArgumentParser
import QMFormat
import QMGraph
import QMNumPy
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor
import QMTraining

/// `qtune`: converts a float network to a `.qm` file and trains what was rounded.
public struct TuneCommand: ToolCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qtune",
    abstract: "Convert a float network (.onnx) to few bits (.qm) and train what was rounded.",
    discussion: """
      The network is converted as by qconvert. Then its weights, biases and scales are trained on \
      the samples with the float network as teacher, so that no labels are needed, and the best \
      state on samples that were held out is written.

      Examples:
        qtune in.onnx out.qm --bits 2 --samples train/
        qtune in.onnx tuned.npz --float --samples train.npz --labels labels
      """,
    version: toolVersion)

  @Argument(help: ArgumentHelp("The float network.", valueName: "in.onnx"), completion: .file())
  var input: String

  @Argument(help: ArgumentHelp("The file to write.", valueName: "out.qm"), completion: .file())
  var output: String

  @Option(
    help:
      "Bits per weight in the file, on average and at most: 1.5 to 8, also fractions. Default: 4.")
  var bits: Double?

  @Option(
    help: ArgumentHelp(
      "Samples to train on: a folder, or one file.", valueName: "folder|in.npz"),
    completion: .file())
  var samples: String

  @Flag(
    name: .customLong("float"),
    help: """
      Train the float network on labels and write its constants to an .npz archive, which \
      qconvert --weights takes.
      """)
  var isFloat = false

  @Option(help: "How the weights start with --float: network (as they are), xavier or he.")
  var start: Initialization = .network

  @Option(
    help: """
      What batch normalizations do with --float: frozen (they keep their statistics) or trained (those \
      of each micro-batch). Default: trained if the weights start anew.
      """)
  var batchNormalization: BatchNormalizationForm?

  @OptionGroup var training: TrainingOptionGroup
  @OptionGroup(title: "Options of the conversion") var options: ConversionOptions
  @OptionGroup var sampling: SampleOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var reportOptions: ReportOptions
  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Checks the options that do not depend on files.
  public func checkOptions() throws {
    if let bits, !(1.5...8).contains(bits) {
      throw ValidationError("--bits \(bits): expected 1.5 to 8")
    }
    if isFloat {
      guard options.probes == 0 else {
        throw ValidationError("--float writes no .qm file; leave out --probes")
      }
      guard training.labels != nil else {
        throw ValidationError(
          "--float needs --labels: the float network would be its own teacher")
      }
      guard output.lowercased().hasSuffix(".npz") else {
        throw ValidationError("--float writes constants; give \(output) a name that ends in .npz")
      }
    } else if start != .network {
      throw ValidationError("--start \(start.rawValue) needs --float")
    } else if batchNormalization != nil {
      throw ValidationError("--batch-normalization needs --float")
    }
  }

  /// Converts, trains, and prints what was gained.
  public func run() throws {
    let console = Console(tool: "qtune", self.console)
    let clock = ContinuousClock()
    let began = clock.now
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: output) }
    try reportOptions.requireWritable(besides: [input, output, samples, training.log])
    if training.resume {
      try within(.file(output + ".checkpoint")) { () throws(QMError) in
        _ = try OpenFile(path: output + ".checkpoint")
      }
    }
    let requested = try recipe()
    let (graph, source) = try options.readNetwork(input, requested, console)
    let recipe = requested.resolved(for: graph, hasSamples: true)
    var metadata = try options.metadata(of: graph, recipe, source)
    let opened = try Samples(
      samples, inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) },
      outputs: graph.outputs.map(\.name) + (training.labels.map { [$0] } ?? []), metadata: metadata,
      sampling)
    metadata.entries += opened.entries
    if let remark = opened.remark { console.note(remark) }
    let folder = opened.source
    try folder.examine(for: graph, console)
    if let labels = training.labels {
      try within(.file(samples)) { () throws(QMError) in
        for index in 0..<folder.count {
          _ = try TrainingSamples.labels(labels, of: index, in: folder)
        }
      }
    }
    if isFloat { return try tuneFloat(graph, folder, since: began, console) }
    let log = try training.log.map { (path) throws(QMError) in try StepLog(path: path) }
    Process.deferInterruption()
    let checkpoint = output + ".checkpoint"
    var steps: [StepReport] = []
    let result = try within(.file(input)) { () throws(QMError) in
      try Tuner(options.converter(recipe, machine), training.options, probes: options.probes).tune(
        graph, samples: folder, metadata: metadata,
        checkpoints: .init(
          path: checkpoint, resumes: training.resume,
          isInterrupted: { Process.interruptingSignal != nil })
      ) { phase in
        switch phase {
        case .converting(let phase): console.progress(phase)
        case .training(let step, let total):
          steps.append(step)
          show(step, of: total, console)
          log?.append(step)
        case .writing: console.progress("writing")
        }
      }
    }
    guard let result else { throw interruption(checkpoint, console) }
    try log?.finish()
    try QualityCheck(recipe, of: input).require(result.after, console)
    let values = try reportOptions.isAsked ? values(of: result, folder, console) : nil
    let weights =
      try reportOptions.isAsked
      ? WeightReport.all(ofFile: result.files.after, result.after.program.constants) : nil
    try Process.uninterrupted { () throws(QMError) in
      try AtomicFile.write(result.files.after, to: output)
      unlink(checkpoint)
    }
    let report = TuningReport(
      source: .init(path: input, bytes: source.byteCount),
      output: .init(path: output, bytes: result.files.after.count),
      bytesBefore: result.files.before.count, bits: recipe.weights.bits, steps: steps.count,
      rate: steps.map(\.rate).max() ?? 0, samples: result.sampleCounts.trained,
      heldOutSamples: result.sampleCounts.heldOut, lossBefore: result.heldOutLoss.before,
      lossAfter: result.heldOutLoss.after, metricBefore: result.metric.before,
      metricAfter: result.metric.after, zeroShare: result.zeroShare,
      clippedShare: steps.isEmpty
        ? 0 : Double(steps.count(where: \.isClipped)) / Double(steps.count),
      divergences: steps.compactMap(\.divergence), outputsBefore: result.before.outputReports,
      outputs: result.after.outputReports, probes: result.probeCount,
      history: reportOptions.isAsked ? steps : nil,
      nodes: reportOptions.isAsked ? NodeReport.all(of: result.after.program) : nil,
      values: values, weights: weights, seconds: (clock.now - began).seconds)
    show(report, console)
    try reportOptions.write(report, console)
    try console.json(report)
    try console.finish()
  }

  /// How close the inner values of the trained file are to those of the float network, on samples that
  /// judge.
  private func values(
    of result: Tuner.Result, _ samples: any SampleSource, _ console: Console
  ) throws(QMError) -> [ValueReport] {
    let names = Set(result.after.judgingSamples)
    let judging = (0..<samples.count).filter { names.contains(samples.name(of: $0)) }
    return try within(.file(input)) { () throws(QMError) in
      try ValueComparison.reports(
        result.after.program, against: result.before.graph.flattened().program,
        on: SampleSubset(of: samples, judging), options: machine.modelOptions
      ) { console.progress("comparing values", done: $0, of: $1) }
    }
  }

  /// Trains in float32 and writes the constants.
  private func tuneFloat(
    _ graph: Graph, _ samples: any SampleSource, since began: ContinuousClock.Instant,
    _ console: Console
  ) throws {
    let log = try training.log.map { (path) throws(QMError) in try StepLog(path: path) }
    Process.deferInterruption()
    let checkpoint = output + ".checkpoint"
    var model = machine.modelOptions
    model.threadCount = machine.conversionThreads
    var trainingOptions = training.options
    trainingOptions.batchNormalization = batchNormalization
    var steps: [StepReport] = []
    let result = try within(.file(input)) { () throws(QMError) in
      try FloatTuner(trainingOptions, model: model).tune(
        graph, samples: samples, start: start,
        checkpoints: .init(
          path: checkpoint, resumes: training.resume,
          isInterrupted: { Process.interruptingSignal != nil })
      ) { step, total in
        steps.append(step)
        show(step, of: total, console)
        log?.append(step)
      }
    }
    guard let result else { throw interruption(checkpoint, console) }
    try log?.finish()
    try Process.uninterrupted { () throws(QMError) in
      try NPZArchive.write(result.parameters.map { ($0.name, $0.tensor) }, to: output)
      unlink(checkpoint)
    }
    console.line(
      "\(Units.count(result.parameters.count, "array")) trained on "
        + "\(Units.count(result.sampleCounts.trained, "sample")) in "
        + Units.seconds((ContinuousClock().now - began).seconds))
    console.line(
      "loss on \(Units.count(result.sampleCounts.heldOut, "sample")) held out: "
        + "\(Units.significant(result.heldOutLoss.before)) → "
        + Units.significant(result.heldOutLoss.after)
        + TuneCommand.change(of: result.metric.before, to: result.metric.after))
    console.line("written to \(output); convert with qconvert --weights \(output)")
    let report = FloatTuningReport(
      output: output, arrays: result.parameters.count, samples: result.sampleCounts.trained,
      heldOutSamples: result.sampleCounts.heldOut, lossBefore: result.heldOutLoss.before,
      lossAfter: result.heldOutLoss.after, metricBefore: result.metric.before,
      metricAfter: result.metric.after, history: reportOptions.isAsked ? steps : nil,
      seconds: (ContinuousClock().now - began).seconds)
    try reportOptions.write(report, console)
    try console.json(report)
    try console.finish()
  }

  private func interruption(_ checkpoint: String, _ console: Console) -> ExitCode {
    console.note("interrupted; the state is in \(checkpoint): go on with --resume")
    return ExitCode(128 + (Process.interruptingSignal ?? SIGINT))
  }

  /// The recipe of the conversion that precedes training.
  private func recipe() throws(QMError) -> Recipe {
    let recipe = try options.recipe(
      bits: bits ?? (options.recipeFile == nil && !isFloat ? TuneCommand.usualBits : nil),
      hasSamples: true)
    if isFloat {
      var plain = Recipe()
      plain.network = recipe.network
      guard recipe == plain else {
        throw .usage("--float does not convert; leave out the options of the conversion")
      }
    }
    guard case .codes = recipe.weights else {
      throw .usage(
        "the recipe has \(Units.shortest(recipe.weights.bits)) bits; training needs 1.5 to 8")
    }
    return recipe
  }

  private static let usualBits = 4.0

  private func show(_ step: StepReport, of total: Int, _ console: Console) {
    console.progress("training", done: step.step + 1, of: total)
    if let divergence = step.divergence {
      console.note(
        "training diverged at \(divergence); back to the best state with half the rate, or to the end "
          + "after the fourth time; ask for a lower --rate")
    }
    if let heldOut = step.heldOutLoss {
      console.note(
        "step \(step.step + 1) of \(total): loss \(Units.significant(step.loss)), "
          + "held out \(Units.significant(heldOut))"
          + (step.metric.map { ", \($0.words) \($0.text)" } ?? "")
          + ", gradient norm \(Units.significant(step.norm))"
          + (step.isClipped ? " (clipped)" : "")
          + ", rate \(Units.significant(Double(step.rate)))")
    }
  }

  private static func change(of before: MetricReport, to after: MetricReport) -> String {
    ", \(before.words) of '\(before.output.abbreviated)' \(before.text) → \(after.text)"
  }

  private func show(_ report: TuningReport, _ console: Console) {
    console.line(
      "\(Units.bytes(report.source.bytes)) → \(Units.bytes(report.output.bytes)) "
        + "(\(Units.bytes(report.bytesBefore)) before training) in \(Units.seconds(report.seconds))"
    )
    console.line(
      "\(Units.shortest(report.bits))-bit weights, \(Units.count(report.steps, "step")) on "
        + "\(Units.count(report.samples, "sample")), rate \(Units.significant(Double(report.rate))), "
        + "\(Int((report.clippedShare * 100).rounded())) % of the steps clipped")
    console.line(
      "loss on \(Units.count(report.heldOutSamples, "sample")) held out: "
        + "\(Units.significant(report.lossBefore)) → \(Units.significant(report.lossAfter))"
        + TuneCommand.change(of: report.metricBefore, to: report.metricAfter))
    if training.sparsity.value > 0 {
      console.line("\(Units.percent(report.zeroShare)) of the codes are 0")
    }
    console.line("before training:")
    console.table(of: report.outputsBefore)
    console.line("after training:")
    console.table(of: report.outputs)
    console.showProbes(report.probes, asked: options.probes)
    console.line("written to \(report.output.path)")
  }
}

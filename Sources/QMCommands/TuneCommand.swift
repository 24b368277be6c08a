import ArgumentParser
import Foundation
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
public struct TuneCommand: ParsableCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qtune",
    abstract: "Convert a float network (.onnx) to few bits (.qm) and train what was rounded.",
    discussion: """
      The network is converted as by qconvert. Then its weights, biases and scales are trained on \
      the samples with the float network as teacher, so that no labels are needed, and the best \
      state on samples that were held out is written.
      """,
    version: toolVersion)

  @Argument(help: ArgumentHelp("The float network.", valueName: "in.onnx"))
  var input: String

  @Argument(help: ArgumentHelp("The file to write.", valueName: "out.qm"))
  var output: String

  @Option(help: "Bits per weight in the file, on average and at most: 1.5 to 8.")
  var bits: Double = 4

  @Option(help: "What weights are rounded to: fixed, free or auto, as in qconvert.")
  var grid: Recipe.Grid?

  @Option(
    help: ArgumentHelp(
      "Samples to train on: a folder, or one file.", valueName: "folder|in.npz"))
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

  @Option(
    name: .customLong("min-sqnr"),
    help: ArgumentHelp(
      "Write nothing if the signal-to-noise ratio of an output is lower. Default: as qconvert's.",
      valueName: "dB"))
  var leastSignalToNoise: Double?

  @OptionGroup var training: TrainingOptionGroup
  @OptionGroup var network: NetworkOptions
  @OptionGroup var sampling: SampleOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Checks the options that do not depend on files.
  public func validate() throws {
    guard let width = Recipe.WeightWidth(bits: bits), case .codes = width else {
      throw ValidationError("--bits \(bits): expected 1.5 to 8")
    }
    if isFloat {
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
    let convert = try conversion()
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: output) }
    if training.resume {
      try within(.file(output + ".checkpoint")) { () throws(QMError) in
        _ = try OpenFile(path: output + ".checkpoint")
      }
    }
    let requested = try convert.recipe()
    let (graph, source) = try convert.readNetwork(requested, console)
    let recipe = requested.resolved(for: graph, hasSamples: true)
    let metadata = try convert.metadata(of: graph, recipe, source)
    let folder = try Samples.open(
      samples, inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) },
      outputs: graph.outputs.map(\.name) + (training.labels.map { [$0] } ?? []), sampling)
    try folder.examine(for: graph, console)
    if isFloat { return try tuneFloat(graph, folder, convert, since: began, console) }
    let log = try training.log.map { (path) throws(QMError) in try StepLog(path: path) }
    Process.deferInterruption()
    let checkpoint = output + ".checkpoint"
    var steps: [StepReport] = []
    let result = try within(.file(input)) { () throws(QMError) in
      try Tuner(convert.converter(recipe), training.options).tune(
        graph, samples: folder, metadata: metadata,
        checkpoints: .init(
          path: checkpoint, resumes: training.resume,
          isInterrupted: { Process.interruptingSignal != nil })
      ) { phase in
        switch phase {
        case .converting(let phase): ConvertCommand.show(phase, console)
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
    try convert.requireQuality(of: result.after, recipe, console)
    try Process.uninterrupted { () throws(QMError) in
      try AtomicFile.write(result.files.after, to: output)
      unlink(checkpoint)
    }
    let report = TuningReport(
      source: .init(path: input, bytes: source.count),
      output: .init(path: output, bytes: result.files.after.count),
      bytesBefore: result.files.before.count, bits: bits, steps: steps.count,
      rate: steps.map(\.rate).max() ?? 0, samples: result.sampleCounts.trained,
      heldOutSamples: result.sampleCounts.heldOut, lossBefore: result.heldOutLoss.before,
      lossAfter: result.heldOutLoss.after,
      clippedShare: steps.isEmpty
        ? 0 : Double(steps.count(where: \.isClipped)) / Double(steps.count),
      divergences: steps.compactMap(\.divergence), outputsBefore: result.before.outputReports,
      outputs: result.after.outputReports, seconds: (clock.now - began).seconds)
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  /// Trains in float32 and writes the constants.
  private func tuneFloat(
    _ graph: Graph, _ samples: any SampleSource, _ convert: ConvertCommand,
    since began: ContinuousClock.Instant, _ console: Console
  ) throws {
    let log = try training.log.map { (path) throws(QMError) in try StepLog(path: path) }
    Process.deferInterruption()
    let checkpoint = output + ".checkpoint"
    var options = machine.modelOptions
    options.threadCount = machine.conversionThreads
    var trainingOptions = training.options
    trainingOptions.batchNormalization = batchNormalization
    let result = try within(.file(input)) { () throws(QMError) in
      try FloatTuner(trainingOptions, model: options).tune(
        graph, samples: samples, start: start,
        checkpoints: .init(
          path: checkpoint, resumes: training.resume,
          isInterrupted: { Process.interruptingSignal != nil })
      ) { step in
        show(step, of: training.steps, console)
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
        + Units.significant(result.heldOutLoss.after))
    console.line("written to \(output); convert with qconvert --weights \(output)")
    try console.json(
      FloatTuningReport(
        output: output, arrays: result.parameters.count, samples: result.sampleCounts.trained,
        heldOutSamples: result.sampleCounts.heldOut, lossBefore: result.heldOutLoss.before,
        lossAfter: result.heldOutLoss.after,
        seconds: (ContinuousClock().now - began).seconds))
    try console.finish()
  }

  private func interruption(_ checkpoint: String, _ console: Console) -> ExitCode {
    console.note("interrupted; the state is in \(checkpoint): go on with --resume")
    return ExitCode(128 + (Process.interruptingSignal ?? SIGINT))
  }

  /// The conversion that precedes training.
  private func conversion() throws -> ConvertCommand {
    var arguments = [input, output, "--bits", "\(bits)", "--samples", samples]
    if let grid { arguments += ["--grid", grid.rawValue] }
    if let leastSignalToNoise { arguments += ["--min-sqnr", "\(leastSignalToNoise)"] }
    var convert = try ConvertCommand.parse(arguments)
    (convert.network, convert.sampling) = (network, sampling)
    (convert.machine, convert.console) = (machine, self.console)
    return convert
  }

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
          + "held out \(Units.significant(heldOut)), gradient norm \(Units.significant(step.norm))"
          + (step.isClipped ? " (clipped)" : "")
          + ", rate \(Units.significant(Double(step.rate)))")
    }
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
        + "\(Units.significant(report.lossBefore)) → \(Units.significant(report.lossAfter))")
    console.line("before training:")
    console.table(of: report.outputsBefore)
    console.line("after training:")
    console.table(of: report.outputs)
    console.line("written to \(report.output.path)")
  }
}

/// Options of training.
struct TrainingOptionGroup: ParsableArguments {
  @Option(help: "Steps of training.")
  var steps: Int = 500

  @Option(help: "Samples of a micro-batch.")
  var batch: Int = 32

  @Option(help: "Micro-batches of a step.")
  var accumulate: Int = 1

  @Option(
    help: "Steps of recurrent layers through which gradients go back in time. 0 for all.")
  var throughTime: Int = 0

  @Flag(
    help:
      "Compute values again in the backward run instead of keeping them: less memory, more time.")
  var recompute = false

  @Option(help: "Largest learning rate. Default: the better of two short tries.")
  var rate: Float?

  @Option(help: "sgd, adam or adamw.")
  var optimizer: Optimizer.Kind = .adamw

  @Option(
    help: """
      How weights and activations are rounded: lsq (learned scales of weights), lsq+ (learned \
      scales and offsets of activations too), pact (learned bounds of activations), normalised, scaled or affine (scales of \
      both from their mean and deviation).
      """)
  var quantizer: Quantizer = .lsq

  @Option(help: "How the learning rate changes: constant, step, exponential, cosine or plateau.")
  var schedule: Schedule.Form = .cosine

  @Option(
    help: "How gradients are clipped: none, value, norm, layer, agc, zscore, percentile or greedy.")
  var clip: Clipping.Kind = .norm

  @Option(help: "The threshold of clipping.")
  var clipNorm: Float = 1

  @Option(
    help: ArgumentHelp(
      "Labels of the samples: an array of the archive, or <sample>.NAME.npy.", valueName: "NAME"))
  var labels: String?

  @Option(help: "The output that the labels are for. Default: the first.")
  var labelledOutput: String?

  @Option(help: "Share of the float network as teacher in the loss beside labels, 0 to 1.")
  var teacher: Float = 0.5

  @Option(
    help: """
      Factor of the results of all products in the loss, which are compared with the float network's; \
      helps with few samples. 0 for the outputs alone.
      """)
  var features: Float = 1

  @Option(help: "Share of the samples that are not trained on, 0 to 0.5; at least one.")
  var holdOut: Float = 0.1

  @Option(help: "Seed of the order of the samples.")
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp("Write every step as a line of JSON to this file.", valueName: "file"))
  var log: String?

  @Flag(help: "Go on from the checkpoint that an interrupted run left beside the output.")
  var resume = false

  func validate() throws {
    func require(_ isValid: Bool, _ option: String, _ value: some Any, _ expected: String) throws {
      guard isValid else { throw ValidationError("\(option) \(value): expected \(expected)") }
    }
    try require((1...10_000_000).contains(steps), "--steps", steps, "1 to 10000000")
    try require((1...65_536).contains(batch), "--batch", batch, "1 to 65536")
    try require((1...65_536).contains(accumulate), "--accumulate", accumulate, "1 to 65536")
    try require(
      (0...1_000_000).contains(throughTime), "--through-time", throughTime, "0 to 1000000")
    if let rate { try require(rate > 0 && rate <= 100, "--rate", rate, "above 0, at most 100") }
    try require(clipNorm > 0 && clipNorm.isFinite, "--clip-norm", clipNorm, "a number above 0")
    try require((0...0.5).contains(holdOut), "--hold-out", holdOut, "0 to 0.5")
    try require((0...1).contains(teacher), "--teacher", teacher, "0 to 1")
    try require(features >= 0 && features.isFinite, "--features", features, "0 or more")
    if labels == nil, labelledOutput != nil {
      throw ValidationError("--labelled-output needs --labels")
    }
  }

  var options: TrainingOptions {
    var options = TrainingOptions()
    options.steps = steps
    options.batch = batch
    options.accumulate = accumulate
    options.throughTime = throughTime
    options.recompute = recompute
    options.rate = rate
    options.optimizer = optimizer
    options.schedule = schedule
    options.quantizer = quantizer
    options.clip = clip
    options.clipThreshold = clipNorm
    options.holdOut = holdOut
    options.seed = seed
    options.labels = labels
    options.labelledOutput = labelledOutput
    options.teacherShare = teacher
    options.featureShare = features
    return options
  }
}

extension Optimizer.Kind: ExpressibleByArgument {}
extension Schedule.Form: ExpressibleByArgument {}
extension Clipping.Kind: ExpressibleByArgument {}
extension Initialization: ExpressibleByArgument {}
extension Quantizer: ExpressibleByArgument {}
extension BatchNormalizationForm: ExpressibleByArgument {}

/// Steps of training as lines of JSON.
final class StepLog {
  private let path: String
  private let handle: FileHandle
  private let encoder = JSONEncoder()
  private var failure: QMError?

  /// - Throws: `cannotWrite`.
  init(path: String) throws(QMError) {
    self.path = path
    encoder.outputFormatting = [.sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    guard FileManager.default.createFile(atPath: path, contents: nil),
      let handle = FileHandle(forWritingAtPath: path)
    else { throw QMError.cannotWrite("the log cannot be created").within(.file(path)) }
    self.handle = handle
  }

  /// Appends a step; a failure is told by ``finish()``.
  func append(_ step: StepReport) {
    guard failure == nil, let line = try? encoder.encode(step) else { return }
    do {
      try handle.write(contentsOf: line + Data("\n".utf8))
    } catch {
      failure = QMError.cannotWrite("the log cannot be written").within(.file(path))
    }
  }

  /// - Throws: `cannotWrite` if a step could not be written.
  func finish() throws(QMError) {
    try? handle.close()
    if let failure { throw failure }
  }
}

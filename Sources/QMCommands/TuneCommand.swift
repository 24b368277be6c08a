import ArgumentParser
import QMFormat
import QMGraph
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

  @OptionGroup var training: TrainingOptionGroup
  @OptionGroup var network: NetworkOptions
  @OptionGroup var sampling: SampleOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Converts, trains, and prints what was gained.
  public func run() throws {
    let console = Console(tool: "qtune", self.console)
    let clock = ContinuousClock()
    let start = clock.now
    var arguments = [input, output, "--bits", "\(bits)", "--samples", samples]
    if let grid { arguments += ["--grid", grid.rawValue] }
    var convert = try ConvertCommand.parse(arguments)
    (convert.network, convert.sampling) = (network, sampling)
    (convert.machine, convert.console) = (machine, self.console)
    try Process.uninterrupted { () throws(QMError) in _ = try AtomicFile(path: output) }
    let requested = try convert.recipe()
    let (graph, source) = try convert.readNetwork(requested, console)
    let recipe = requested.resolved(for: graph, hasSamples: true)
    let metadata = try convert.metadata(of: graph, recipe, source)
    let labels = training.labels
    let folder = try Samples.open(
      samples, inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) },
      outputs: graph.outputs.map(\.name) + (labels.map { [$0] } ?? []), sampling)
    try folder.examine(for: graph, console)
    let result = try within(.file(input)) { () throws(QMError) in
      try Tuner(convert.converter(recipe), training.options)
        .tune(graph, samples: folder, metadata: metadata) { phase in
          switch phase {
          case .converting(let phase): ConvertCommand.show(phase, console)
          case .training(let done, let total, let loss, let heldOut, let bits):
            console.progress("training", done: done, of: total)
            if let heldOut {
              console.note("step \(done): loss \(loss), held out \(heldOut), \(Int(bits / 8)) B")
            }
          }
        }
    }
    let threads = ThreadPool(threadCount: machine.conversionThreads)
    let bytes = try result.after.program.encoded(threads: threads)
    let before = try result.before.program.encoded(threads: threads)
    try Process.uninterrupted { () throws(QMError) in try AtomicFile.write(bytes, to: output) }
    console.line(
      "\(Units.bytes(source.count)) → \(Units.bytes(bytes.count)) (\(Units.bytes(before.count)) before "
        + "training) in \(Units.seconds((clock.now - start).seconds))")
    console.line(
      "loss on samples held out: \(result.heldOutLoss.before) → \(result.heldOutLoss.after)")
    console.table(of: result.before.outputReports)
    console.table(of: result.after.outputReports)
    try console.finish()
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

  @Option(help: "Largest learning rate.")
  var rate: Float = 0.005

  @Option(help: "sgd, adam or adamw.")
  var optimizer: Optimizer.Kind = .adamw

  @Option(help: "How the learning rate changes: constant, step, exponential, cosine or plateau.")
  var schedule: Schedule.Form = .cosine

  @Option(help: "How gradients are clipped: none, value, norm, layer, agc, zscore or percentile.")
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

  @Option(help: "Share of the samples that are not trained on, 0 to 0.5.")
  var holdOut: Float = 0.1

  @Option(help: "Seed of the order of the samples.")
  var seed: UInt64 = 0

  var options: TrainingOptions {
    var options = TrainingOptions()
    options.steps = steps
    options.batch = batch
    options.accumulate = accumulate
    options.rate = rate
    options.optimizer = optimizer
    options.schedule = schedule
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

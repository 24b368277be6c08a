import ArgumentParser
import QMFormat
import QMNumPy
import QMONNX
import QMReport
import QMRuntime
import QMTensor

/// `qrun`: runs a network on samples.
public struct RunCommand: ToolCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qrun",
    abstract: "Run a network (.qm, or .onnx in float) on samples.",
    discussion: """
      Results are written as <sample>.<output>.npy. --benchmark and --profile run the first sample \
      or, without samples, seeded inputs. A file of arrays without a network needs no samples: \
      --output names the .npz to write the arrays to.

      Examples:
        qrun out.qm eval/ --output results/
        qrun in.onnx eval/ --labels labels.json
      """,
    version: toolVersion)

  @Argument(
    help: ArgumentHelp("The network.", valueName: "model.qm|model.onnx"), completion: .file())
  var model: String

  @Argument(
    help: ArgumentHelp("Folder of samples, or one file.", valueName: "samples"), completion: .file()
  )
  var samples: String?

  @Option(
    help: ArgumentHelp(
      "Folder for the results; for arrays without a network, the archive to write.",
      valueName: "folder|w.npz"),
    completion: .file())
  var output: String?

  @Flag(help: "Print one SHA-256 digest over the bytes of all outputs.")
  var digest = false

  @Option(
    help: ArgumentHelp(
      "Print the share of items whose highest score in the first output is at their label.",
      valueName: "labels.json"),
    completion: .file())
  var labels: String?

  @Option(help: ArgumentHelp("Time this many runs.", valueName: "runs"))
  var benchmark: Int?

  @Flag(help: "Show the time of each node.")
  var profile = false

  @OptionGroup var inputs: InputOptions
  @OptionGroup var sampling: SampleOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Checks the options that do not depend on files.
  public func checkOptions() throws {
    if let benchmark, !(1...1_000_000).contains(benchmark) {
      throw ValidationError("--benchmark \(benchmark): expected 1 to 1000000 runs")
    }
    let usesOutputs = output != nil || digest || labels != nil
    guard usesOutputs || benchmark != nil || profile else {
      throw ValidationError(
        "nothing to do: give --output, --digest, --labels, --benchmark or --profile")
    }
    // With --output alone, samples are checked later: arrays without a network need none.
    if digest || labels != nil, samples == nil {
      throw ValidationError("missing folder of samples")
    }
  }

  /// Runs the network, and prints the report.
  public func run() throws {
    let console = Console(tool: "qrun", self.console)
    let clock = ContinuousClock()
    let start = clock.now
    console.progress("reading")
    let changes = try networkChanges()
    let network = try Network.model(
      path: model, changes: changes, options: machine.modelOptions, console)
    let loadSeconds = (clock.now - start).seconds
    if let output, network.inputs.isEmpty {
      return try unpack(network, to: output, console)
    }
    if samples == nil, output != nil {
      throw QMError.usage("missing folder of samples").within(.file(model))
    }

    var report = RunReport(
      model: model, threads: machine.threads, kernels: machine.kernels.rawValue)
    let folder = try samples.map { (path) throws(QMError) in
      try Samples(path, for: network.signature, sampling).source
    }
    if let folder, output != nil || digest || labels != nil {
      try runSamples(folder, network, &report, console)
    }
    if let benchmark {
      report.benchmark = try time(
        benchmark, network, firstInputs(folder, network), loadSeconds, console)
    }
    if profile {
      report.profile = try measure(network, changes, firstInputs(folder, network), console)
    }
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  /// - Throws: `usage` if a `.qm` file is to be changed.
  private func networkChanges() throws(QMError) -> ONNXChanges {
    let network = inputs.network
    if !network.isEmpty, try Network.isProgram(model) {
      throw QMError.usage(
        "--input and --set change an .onnx network, not a .qm file; give them to qconvert"
      ).within(.file(model))
    }
    return try NetworkOptions.changes(network)
  }

  private func firstInputs(_ samples: (any SampleSource)?, _ network: Model) throws(QMError)
    -> [String: Tensor]
  {
    if let samples { return try samples.inputs(of: 0) }
    return try SeededInputs(network).tensors(seed: 0)
  }

  // MARK: Samples

  private func runSamples(
    _ samples: any SampleSource, _ network: Model, _ report: inout RunReport, _ console: Console
  ) throws(QMError) {
    let labels = try self.labels.map { (path) throws(QMError) in try Labels(path: path) }
    let outputs = network.outputs.map(\.name)
    let results = try output.map { (path) throws(QMError) in
      try ResultFolder(path: path, outputs: outputs)
    }
    let session = Session(network)
    var digest = Digest()
    var accuracy = Accuracy()
    for index in 0..<samples.count {
      let stem = samples.name(of: index)
      let tensors = try within(.sample(stem)) { () throws(QMError) in
        try session.run(samples.inputs(of: index))
      }
      for name in outputs {
        if let tensor = tensors[name] { digest.update(tensor.bytes) }
      }
      for (stem, tensors) in try samples.results(tensors, of: index) {
        if let results {
          try Process.uninterrupted { () throws(QMError) in
            try results.write(tensors, stem: stem)
          }
        }
        if let labels, let first = outputs.first.flatMap({ tensors[$0] }) {
          try within(.sample(stem)) { () throws(QMError) in
            try accuracy.add(first, labels: labels.labels(of: stem))
          }
        }
      }
      console.progress("running", done: index + 1, of: samples.count)
    }
    report.samples = samples.count
    report.output = output
    if self.digest {
      report.digest = digest.finished().hexadecimal
    }
    if labels != nil {
      report.accuracy = accuracy.share
      report.items = accuracy.itemCount
    }
  }

  // MARK: Time

  private func time(
    _ runs: Int, _ network: Model, _ inputs: [String: Tensor], _ loadSeconds: Double,
    _ console: Console
  ) throws(QMError) -> RunReport.Benchmark {
    let session = Session(network)
    // Warms up plans, caches and the clock frequency of the processor.
    for _ in 0..<max(3, min(runs / 10, 50)) { _ = try session.run(inputs) }
    let clock = ContinuousClock()
    var times: [Double] = []
    for run in 0..<runs {
      let start = clock.now
      _ = try session.run(inputs)
      times.append((clock.now - start).seconds)
      if run % 64 == 63 { console.progress("timing", done: run + 1, of: runs) }
    }
    times.sort()
    let middle = times.count / 2
    let median = times.count % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2
    return RunReport.Benchmark(
      runs: runs, medianMilliseconds: 1e3 * median, minimumMilliseconds: 1e3 * times[0],
      loadMilliseconds: 1e3 * loadSeconds, peakBytes: Process.peakByteCount,
      arenaBytes: session.arenaByteCount, weightBytes: network.weightByteCount,
      bufferPeakBytes: Buffer.mostHeldByteCount)
  }

  private func measure(
    _ network: Model, _ changes: ONNXChanges, _ inputs: [String: Tensor], _ console: Console
  ) throws(QMError) -> [RunReport.ProfileEntry] {
    let session = Session(network)
    let program = try Network.program(path: model, changes: changes)
    var warmUp = Profile(program)
    for _ in 0..<3 { try warmUp.run(session, inputs) }
    var profile = Profile(program)
    let runs = max(benchmark ?? 20, 1)
    for run in 0..<runs {
      try profile.run(session, inputs)
      console.progress("timing nodes", done: run + 1, of: runs)
    }
    return RunReport.ProfileEntry.all(of: profile)
  }

  // MARK: Report

  private func show(_ report: RunReport, _ console: Console) {
    if let samples = report.samples, let output = report.output {
      console.line("\(Units.count(samples, "sample")) run, results in \(output)")
    }
    if let digest = report.digest { console.line(digest) }
    if let accuracy = report.accuracy, let items = report.items {
      console.line(
        "accuracy \(Units.percent(accuracy, digits: 2)) of \(Units.count(items, "item"))")
    }
    if let benchmark = report.benchmark {
      console.line(
        "\(Units.seconds(benchmark.medianMilliseconds / 1e3)) per run (median of "
          + "\(benchmark.runs)), \(Units.seconds(benchmark.minimumMilliseconds / 1e3)) at best, "
          + "\(Units.count(report.threads, "thread")), \(report.kernels)")
      console.line(
        "loaded in \(Units.seconds(benchmark.loadMilliseconds / 1e3)), "
          + "\(Units.bytes(benchmark.arenaBytes)) for values, "
          + "\(Units.bytes(benchmark.peakBytes)) peak memory")
    }
    guard let profile = report.profile else { return }
    console.table(
      ["node", "operation", "runs as", "kernel", "time", "GOP/s", "share"],
      profile.map {
        [
          $0.node.abbreviated, $0.operation, $0.mode, $0.kernel,
          Units.seconds($0.milliseconds / 1e3),
          $0.gigaoperations.map { Units.significant($0) } ?? "", Units.percent($0.share),
        ]
      }, trailing: [4, 5, 6])
    var byKernel: [String: Double] = [:]
    for entry in profile { byKernel[entry.kernel, default: 0] += entry.milliseconds }
    let total = byKernel.values.reduce(0, +)
    console.line()
    console.table(
      ["kernel", "time", "share"],
      byKernel.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map {
        [$0.key, Units.seconds($0.value / 1e3), Units.percent(total > 0 ? $0.value / total : 0)]
      }, trailing: [1, 2])
  }
}

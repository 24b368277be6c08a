import QMFormat
import QMOperations
import QMQuantization
import QMReport
import QMTensor

/// `qconvert --target-size`, `--dry-run`: bits of a weight by what they lead to.
extension ConvertCommand {
  /// Converts with the bits that keep the budget.
  func search(
    _ network: PreparedNetwork, _ console: Console
  ) throws(QMError) -> (BudgetTrials.Result, BudgetReport) {
    var trials = try trials(network)
    func progress(_ phase: Conversion.Phase) { ConvertCommand.show(phase, console) }
    let result = try trials.mostBits(within: budget.targetSize?.bytes ?? .max, progress: progress)
    return (result, report(trials, result))
  }

  private func trials(_ network: PreparedNetwork) throws(QMError) -> BudgetTrials {
    try BudgetTrials(
      network.prepared, recipe: network.recipe, metadata: network.metadata,
      threads: ThreadPool(threadCount: machine.conversionThreads))
  }

  private func report(_ trials: BudgetTrials, _ result: BudgetTrials.Result) -> BudgetReport {
    BudgetReport(
      targetBytes: budget.targetSize?.bytes, bits: result.bits, trials: trials.trials.map(\.report))
  }

  // MARK: Dry run

  /// Bits with which a dry run shows the cost of each node, unless others are asked for.
  private static let usualBits = 4.0
  /// Nodes that are printed.
  private static let printedNodes = 20

  /// Prints what conversions give, and writes nothing.
  func dryRun(
    _ requested: Recipe, _ start: ContinuousClock.Instant, _ console: Console
  ) throws {
    guard !CheckpointFile.isOne(input) else {
      throw QMError.usage("--dry-run needs a network, found arrays").within(.file(input))
    }
    let network = try readPrepared(requested, console)
    let (result, report) = try within(.file(input)) {
      () throws(QMError) -> (BudgetTrials.Result, BudgetReport) in
      if budget.isSearch { return try search(network, console) }
      var trials = try trials(network)
      let result = try trials.survey(
        bits == nil && recipeFile == nil ? ConvertCommand.usualBits : network.recipe.weights.bits,
        progress: { ConvertCommand.show($0, console) })
      return (result, self.report(trials, result))
    }
    let conversion = result.conversion
    let dryRun = DryRunReport(
      source: .init(path: input, bytes: network.byteCount), budget: report,
      nodes: conversion.weightCosts.map(\.report).sorted {
        ($1.decibelsPerKilobyte, $0.node) < ($0.decibelsPerKilobyte, $1.node)
      },
      samples: conversion.areSamplesMade ? 0 : conversion.sampleCount,
      madeInputs: conversion.areSamplesMade ? conversion.sampleCount : 0,
      seconds: (ContinuousClock().now - start).seconds)
    show(dryRun, console)
    try console.json(dryRun)
    try console.finish()
  }

  private func show(_ report: DryRunReport, _ console: Console) {
    show(report.budget, console)
    if report.madeInputs > 0 {
      console.line("measured on made inputs, which does not bound real ones: give --samples")
    }
    guard !report.nodes.isEmpty else { return }
    console.line("with \(Units.shortest(report.budget.bits)) bits:")
    console.table(
      ["node", "weights", "bits", "bytes", "share of the error", "dB per kB"],
      report.nodes.prefix(ConvertCommand.printedNodes).map { node in
        [
          (node.node.isEmpty ? node.weights : node.node).abbreviated, "\(node.count)",
          Units.fixed(8 * Double(node.bytes) / Double(node.count), 2), "\(node.bytes)",
          Units.percent(node.errorShare), Units.significant(node.decibelsPerKilobyte),
        ]
      }, trailing: [1, 2, 3, 4, 5])
    if report.nodes.count > ConvertCommand.printedNodes {
      let rest = report.nodes.count - ConvertCommand.printedNodes
      console.line("  and \(Units.count(rest, "node")) more; --json lists all")
    }
  }

  /// Prints what was tried, the most bits first.
  func show(_ report: BudgetReport, _ console: Console) {
    console.table(
      ["bits", "bytes predicted", "bytes", "SQNR predicted", "SQNR", ""],
      report.trials.sorted { $0.bits > $1.bits }.map { trial in
        [
          Units.shortest(trial.bits), trial.predictedBytes.map(String.init) ?? "–",
          "\(trial.bytes)", trial.predictedDecibels.map(Units.decibels) ?? "–",
          trial.signalToNoiseDecibels.map(Units.decibels) ?? "–",
          budget.isSearch && trial.bits == report.bits ? "chosen" : "",
        ]
      }, trailing: [0, 1, 2, 3, 4])
  }
}

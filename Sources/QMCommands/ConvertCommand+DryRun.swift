import QMQuantization
import QMReport
import QMTensor

/// `qconvert --dry-run`: what conversions would give.
extension ConvertCommand {
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
    let (result, budget) = try within(.file(input)) {
      () throws(QMError) -> (BudgetTrials.Result, BudgetReport) in
      try self.budget.isSearch ? search(network, console) : survey(network, console)
    }
    let conversion = result.conversion
    let found = DryRunReport(
      source: .init(path: input, bytes: network.byteCount), budget: budget,
      nodes: conversion.weightCosts.map(\.report).sorted {
        ($1.decibelsPerKilobyte, $0.node) < ($0.decibelsPerKilobyte, $1.node)
      },
      samples: conversion.areSamplesMade ? 0 : conversion.sampleCount,
      madeInputs: conversion.areSamplesMade ? conversion.sampleCount : 0,
      seconds: (ContinuousClock().now - start).seconds)
    show(found, console)
    try report.write(found, console)
    try console.json(found)
    try console.finish()
  }

  /// Converts with the usual numbers of bits.
  private func survey(
    _ network: PreparedNetwork, _ console: Console
  ) throws(QMError) -> (BudgetTrials.Result, BudgetReport) {
    var trials = try trials(network)
    let loss =
      try metricLoss(network, console)
      ?? (hasSamples && !network.prepared.scores.isEmpty ? .ofJudgedRows : nil)
    let result = try trials.survey(
      bits == nil && options.recipeFile == nil
        ? ConvertCommand.usualBits : network.recipe.weights.bits,
      drop: loss?.measure ?? { _ in nil }, progress: { console.progress($0) })
    return (result, report(trials, result, loss))
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
}

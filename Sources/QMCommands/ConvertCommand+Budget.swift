import QMFormat
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// `qconvert --target-size`, `--max-drop`: bits of a weight by what they lead to.
extension ConvertCommand {
  /// Converts with the bits that keep the budget.
  func search(
    _ network: PreparedNetwork, _ console: Console
  ) throws(QMError) -> (BudgetTrials.Result, BudgetReport) {
    var trials = try trials(network)
    func progress(_ phase: Conversion.Phase) { console.progress(phase) }
    if let size = budget.targetSize {
      let loss = try metricLoss(network, console)
      let result = try trials.mostBits(
        within: size.bytes, drop: loss?.measure ?? { _ in nil }, progress: progress)
      return (result, report(trials, result, loss))
    }
    var known: BudgetTrials.Result?
    let loss: Loss
    if let metric = try metricLoss(network, console) {
      loss = metric
    } else if !network.prepared.scores.isEmpty, let share = allowedShare {
      loss = try agreementLoss(share, network, console)
    } else {
      guard budget.metricSamples == nil else {
        throw .usage("--metric-samples needs --metric, or a network whose outputs are scores")
      }
      if let decibels = allowedDecibels {
        let finest = try trials.convert(bits: 8, drop: { _ in 1 }, progress: progress)
        known = finest
        loss = .decibels(decibels, below: finest.conversion)
      } else {
        loss = .errorPower(allowedShare ?? 0)
      }
    }
    let check = QualityCheck(network.recipe, of: input, canChooseBits: false)
    let result = try trials.fewestBits(
      losing: loss.limit ?? 0, known: known,
      accepts: { check.insufficientParts(of: $0).isEmpty },
      drop: { (conversion) throws(QMError) in try loss.measure(conversion) ?? .nan },
      progress: progress)
    guard let result else {
      let least = trials.trials.compactMap(\.drop).min() ?? .nan
      guard !(least <= loss.limit ?? 0) else {
        throw QMError(
          .qualityTooLow,
          "no number of bits that keeps --max-drop reaches --min-sqnr; nothing was written",
          remedies: [.acceptQuality])
      }
      throw QMError(
        .qualityTooLow,
        "the least loss of \(loss.name) is \(Units.significant(loss.shown(least))), over --max-drop "
          + "\(Units.significant(loss.limit.map(loss.shown) ?? 0)); nothing was written")
    }
    return (result, report(trials, result, loss))
  }

  func trials(_ network: PreparedNetwork) throws(QMError) -> BudgetTrials {
    try BudgetTrials(
      network.prepared, recipe: network.recipe, metadata: network.metadata,
      probes: network.probes, threads: ThreadPool(threadCount: machine.conversionThreads))
  }

  func report(
    _ trials: BudgetTrials, _ result: BudgetTrials.Result, _ loss: Loss?
  ) -> BudgetReport {
    BudgetReport(
      targetBytes: budget.targetSize?.bytes,
      drop: loss.map {
        .init(measure: $0.name, float: $0.float, allowed: $0.limit.map($0.shown))
      },
      bits: result.bits, trials: trials.trials.map { $0.report(showing: loss?.shown ?? { $0 }) })
  }

  // MARK: Losses

  /// What a conversion loses, and how much it may.
  struct Loss {
    /// What is measured.
    let name: String
    /// The metric of the float network.
    var float: Double?
    /// Most that may be lost, in the unit of ``measure``; nil if anything may.
    let limit: Double?
    let measure: (Conversion) throws(QMError) -> Double?
    /// A loss in the unit that the user sees.
    var shown: (Double) -> Double = { $0 }

    /// Of the rows of the samples that judge; any loss is allowed.
    static var ofJudgedRows: Loss {
      Loss(name: "top-1 agreement", limit: nil) { $0.topOneLoss }
    }

    /// Of outputs that are no scores.
    static func errorPower(_ limit: Double) -> Loss {
      Loss(name: "error power over signal power", limit: limit) { $0.errorPower }
    }

    /// dB below another conversion.
    static func decibels(_ limit: Double, below finest: Conversion) -> Loss {
      let least = finest.errorPower
      return Loss(
        name: "SQNR in dB", limit: Comparison.ratio(ofDecibels: limit),
        measure: { $0.errorPower > least ? $0.errorPower / max(least, 1e-12) : 1 },
        shown: { Comparison.decibels($0) })
    }
  }

  /// The dB below 8 bits that may be lost, of a network without scores or with that unit.
  private var allowedDecibels: Double? {
    switch budget.metrics.maxDrop {
    case .decibels(let number), .absolute(let number): number
    case .share, nil: nil
    }
  }

  /// The share of rows, or of power, that may be lost.
  private var allowedShare: Double? {
    switch budget.metrics.maxDrop {
    case .share(let share), .absolute(let share): share
    case .decibels, nil: nil
    }
  }

  /// The loss of rows whose highest score is at the same class as in the float network.
  private func agreementLoss(
    _ limit: Double, _ network: PreparedNetwork, _ console: Console
  ) throws(QMError) -> Loss {
    let names = network.prepared.scores
    var (samples, indices) = try metricSamples(network)
    var options = machine.modelOptions
    options.threadCount = machine.conversionThreads
    func classes(_ program: Program) throws(QMError) -> TopClasses {
      var classes = TopClasses()
      try samples.run(try Model(program, options: options), at: indices, console) {
        (_, outputs) throws(QMError) in
        for name in names.sorted() {
          if let scores = outputs[name] { try classes.add(scores, of: name) }
        }
      }
      return classes
    }
    var float = try classes(network.prepared.floatProgram)
    // Of n rows without a change, the share of changes is up to 3 / n in 95 of 100 cases.
    func isTooFew() -> Bool { limit > 0 && Double(float.rowCount) * limit < 3 }
    if isTooFew(), indices.count < samples.count {
      indices = Array(0..<samples.count)
      float = try classes(network.prepared.floatProgram)
    }
    if isTooFew() {
      console.note(
        "\(Units.count(float.rowCount, "row")) without a change may hide a loss of "
          + "\(Units.percent(min(3 / Double(max(float.rowCount, 1)), 1))); give more samples with "
          + "--metric-samples")
    }
    return Loss(name: "top-1 agreement", limit: limit) { [float] (conversion) throws(QMError) in
      try classes(conversion.program).loss(against: float)
    }
  }

  /// The loss of the user's metric, which judges the float network first; nil without a metric.
  func metricLoss(_ network: PreparedNetwork, _ console: Console) throws(QMError) -> Loss? {
    guard let metric = budget.metrics.command else { return nil }
    let (samples, indices) = try metricSamples(network)
    var options = machine.modelOptions
    options.threadCount = machine.conversionThreads
    func value(_ program: Program) throws(QMError) -> Metric.Value {
      try metric.value(of: Model(program, options: options), on: samples, at: indices, console)
    }
    let float: Metric.Value
    do throws(QMError) {
      float = try value(network.prepared.floatProgram)
    } catch {
      guard error.code == .invalidInput, budget.metricSamples == nil else { throw error }
      throw QMError(
        error.code,
        error.message + "; it got the \(Units.count(indices.count, "sample")) that judge, "
          + "--metric-samples gives it others", context: error.context)
    }
    return Loss(
      name: float.name ?? "metric", float: float.number,
      limit: try metric.limit(budget.metrics.maxDrop, float),
      measure: { (conversion) throws(QMError) in
        try value(conversion.program).loss(against: float)
      })
  }

  /// The samples for the metric, and which of them.
  private func metricSamples(
    _ network: PreparedNetwork
  ) throws(QMError) -> (any SampleSource, indices: [Int]) {
    if let path = budget.metricSamples {
      // The limit is of the samples that are observed: a metric may need all of its own.
      var sampling = sampling
      sampling.limitSamples = nil
      let samples = try Samples(path, for: network.prepared.floatProgram, sampling).source
      return (samples, Array(0..<samples.count))
    }
    if let samples = network.samples, let indices = network.prepared.judgingIndices {
      return (samples, indices)
    }
    guard let samples = network.prepared.judgingSamples else {
      throw .usage("--metric needs samples", remedies: .giveSamples)
    }
    return (samples, Array(0..<samples.count))
  }

  // MARK: Text

  /// Prints what was tried, the most bits first.
  func show(_ report: BudgetReport, _ console: Console) {
    var header = ["bits", "bytes predicted", "bytes", "SQNR predicted", "SQNR"]
    let isPredicted = report.trials.contains { $0.predictedDrop != nil }
    if isPredicted { header.append("loss predicted") }
    if report.drop != nil { header.append("loss") }
    func number(_ loss: Double?) -> String { loss.map { Units.significant($0) } ?? "–" }
    let rows = report.trials.sorted { $0.bits > $1.bits }.map { trial in
      var row = [
        Units.shortest(trial.bits), trial.predictedBytes.map(String.init) ?? "–", "\(trial.bytes)",
        trial.predictedDecibels.map(Units.decibels) ?? "–",
        trial.signalToNoiseDecibels.map(Units.decibels) ?? "–",
      ]
      if isPredicted { row.append(number(trial.predictedDrop)) }
      if report.drop != nil { row.append(number(trial.drop)) }
      return row + [budget.isSearch && trial.bits == report.bits ? "chosen" : ""]
    }
    console.table(header + [""], rows, trailing: Set(header.indices))
    guard let drop = report.drop else { return }
    console.line(
      "loss of \(drop.measure)"
        + (drop.float.map { ", which is \(Units.significant($0, digits: 4)) in float" } ?? "")
        + (drop.allowed.map { "; at most \(Units.significant($0)) was allowed" } ?? ""))
  }
}

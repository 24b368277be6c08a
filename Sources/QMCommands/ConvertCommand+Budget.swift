import QMFormat
import QMOperations
import QMQuantization
import QMReport
import QMTensor

/// `qconvert --target-size`: bits of a weight by what they lead to.
extension ConvertCommand {
  /// Converts with the bits that keep the budget.
  func search(
    _ prepared: PreparedConversion, _ recipe: Recipe, _ metadata: Program.Metadata,
    _ console: Console
  ) throws(QMError) -> (Conversion, file: [UInt8], BudgetReport?) {
    var trials = try BudgetTrials(
      prepared, recipe: recipe, metadata: metadata,
      threads: ThreadPool(threadCount: machine.conversionThreads))
    func progress(_ phase: Conversion.Phase) { ConvertCommand.show(phase, console) }
    let result = try trials.mostBits(within: budget.targetSize?.bytes ?? .max, progress: progress)
    let report = BudgetReport(
      targetBytes: budget.targetSize?.bytes, bits: result.bits, trials: trials.trials.map(\.report))
    return (result.conversion, result.file, report)
  }

  /// Prints what was tried.
  func show(_ report: BudgetReport, _ console: Console) {
    console.table(of: report.trials, chosen: report.bits)
  }
}

extension Console {
  /// Prints a table with one row per conversion that was tried.
  func table(of trials: [BudgetReport.Trial], chosen: Double?) {
    table(
      ["bits", "bytes predicted", "bytes", "SQNR predicted", "SQNR", ""],
      trials.map { trial in
        [
          Units.shortest(trial.bits), trial.predictedBytes.map(String.init) ?? "–",
          "\(trial.bytes)", trial.predictedDecibels.map(Units.decibels) ?? "–",
          trial.signalToNoiseDecibels.map(Units.decibels) ?? "–",
          trial.bits == chosen ? "chosen" : "",
        ]
      }, trailing: [0, 1, 2, 3, 4])
  }
}

import QMFormat
import QMOperations
import QMQuantization
import QMReport
import QMTensor

/// `qconvert weights.npz out.qm`: converts a checkpoint, arrays without a network.
extension ConvertCommand {
  func convertCheckpoint(
    _ recipe: Recipe, to output: String, _ console: Console
  ) throws(QMError) {
    let clock = ContinuousClock()
    let start = clock.now
    guard !hasSamples, recipe.activations == nil, recipe.network.isEmpty, options.weights == nil,
      recipe.floatNodes.isEmpty, !explain, budget.metrics.maxDrop == nil
    else {
      throw QMError.usage(
        "the file holds arrays without a network: use only --bits, --target-size, --grid, "
          + "--bits-for, --group-size, --per-tensor and --min-sqnr"
      ).within(.file(input))
    }
    console.progress("reading")
    let source = try SourceFile(path: input)
    let arrays = try CheckpointFile.arrays(path: input, console)
    var metadata = Program.Metadata(producer: "swift-qm \(toolVersion)")
    metadata.sourceDigest = source.digest
    let threads = ThreadPool(threadCount: machine.conversionThreads)
    let convert: (Recipe) throws(QMError) -> ConvertedArrays = { (recipe) throws(QMError) in
      var metadata = metadata
      metadata.recipe = recipe.entries
      let checkpoint = try Checkpoint(
        arrays, weights: recipe.weights, grid: recipe.grid, widths: recipe.widths,
        granularity: recipe.granularity, groupSize: recipe.groupSize, metadata: metadata
      ) { done in console.progress("rounding", done: done, of: arrays.count) }
      return ConvertedArrays(
        recipe: recipe, checkpoint: checkpoint,
        bytes: try checkpoint.program.encoded(threads: threads))
    }
    let (converted, trials) = try within(.file(input)) {
      () throws(QMError) -> (ConvertedArrays, BudgetReport?) in
      guard let limit = budget.targetSize?.bytes else { return (try convert(recipe), nil) }
      return try mostBits(
        within: limit, of: Checkpoint.widths(recipe.grid, groupSize: recipe.groupSize)
      ) { (bits) throws(QMError) in
        var recipe = recipe
        recipe.weights = .codes(bits)
        return try convert(recipe)
      }
    }
    try requireArrayQuality(converted.checkpoint, converted.recipe)

    console.progress("writing")
    try Process.uninterrupted { () throws(QMError) in
      try AtomicFile.write(converted.bytes, to: output)
    }
    let seconds = (clock.now - start).seconds
    let convertedReport = try CheckpointReport(
      source: .init(path: input, bytes: source.byteCount),
      output: .init(path: output, bytes: converted.bytes.count),
      bits: converted.recipe.weights.bits, budget: trials,
      arrays: converted.checkpoint.arrayReports(in: converted.bytes), seconds: seconds)
    console.table(of: convertedReport.arrays)
    if let trials { show(trials, console) }
    console.line(
      "\(Units.bytes(source.byteCount)) → \(Units.bytes(converted.bytes.count)), "
        + "\(Units.fixed(convertedReport.ratio, 2)) times smaller, in \(Units.seconds(seconds))")
    console.line("written to \(output)")
    try report.write(convertedReport, console)
    try console.json(convertedReport)
    try console.finish()
  }

  /// Arrays with the bits of a recipe, and the file of them.
  private struct ConvertedArrays {
    let recipe: Recipe
    let checkpoint: Checkpoint
    let bytes: [UInt8]

    /// SQNR in dB of the worst array; nil if all are exact.
    var worstSignalToNoise: Double? {
      checkpoint.comparisons.values.filter { $0.sampleCount > 0 }.map(\.signalToNoise).min()
    }
  }

  /// The arrays with the most bits whose file is so small.
  private func mostBits(
    within limit: Int, of widths: [Double],
    _ convert: (_ bits: Double) throws(QMError) -> ConvertedArrays
  ) throws(QMError) -> (ConvertedArrays, BudgetReport?) {
    var trials: [BudgetReport.Trial] = []
    let converted = try CrossingSearch.mostBits(
      of: widths, within: limit, sizes: RateCurve(slope: Double(limit) / 4)
    ) { (bits) throws(QMError) in
      let converted = try convert(bits)
      trials.append(
        .init(
          bits: bits, predictedBytes: nil, bytes: converted.bytes.count, predictedDecibels: nil,
          signalToNoiseDecibels: converted.worstSignalToNoise, drop: nil))
      return (converted, converted.bytes.count)
    }
    return (
      converted,
      BudgetReport(targetBytes: limit, bits: converted.recipe.weights.bits, trials: trials)
    )
  }

  /// Checks the error of each array against the requested quality.
  /// - Throws: `qualityTooLow` if an array does not reach it.
  private func requireArrayQuality(
    _ checkpoint: Checkpoint, _ recipe: Recipe
  ) throws(QMError) {
    guard let required = recipe.thresholds.leastDecibels, required > 0 else { return }
    let worst = checkpoint.comparisons.min {
      ($0.value.signalToNoise, $0.key) < ($1.value.signalToNoise, $1.key)
    }
    guard let worst, !(worst.value.signalToNoise >= required) else { return }
    let bits = recipe.weights.bits
    throw QualityCheck(recipe, of: input).tooLow(
      worst.value.signalToNoise, of: worst.key, required: required,
      remedies: bits < 8 ? [.useBits(min(Int(bits) + 2, 8))] : [])
  }
}

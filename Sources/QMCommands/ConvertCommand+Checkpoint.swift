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
    guard !hasSamples, recipe.activations == nil, recipe.network.isEmpty, weights == nil,
      recipe.floatNodes.isEmpty, !explain, !budget.isSearch
    else {
      throw QMError.usage(
        "the file holds arrays without a network: use only --bits, --grid, --bits-for, "
          + "--group-size, --per-tensor and --min-sqnr"
      ).within(.file(input))
    }
    console.progress("reading")
    let source = try Buffer.mapping(path: input)
    let arrays = try CheckpointFile.arrays(path: input, console)
    var metadata = Program.Metadata(producer: "swift-qm \(toolVersion)")
    var digest = Digest()
    digest.update(UnsafeRawBufferPointer(source.bytes))
    metadata.sourceDigest = digest.finished()
    metadata.recipe = recipe.entries
    let (checkpoint, bytes) = try within(.file(input)) { () throws(QMError) in
      let checkpoint = try Checkpoint(
        arrays, weights: recipe.weights, grid: recipe.grid, widths: recipe.widths,
        granularity: recipe.granularity, groupSize: recipe.groupSize, metadata: metadata
      ) { done in console.progress("rounding", done: done, of: arrays.count) }
      let threads = ThreadPool(threadCount: machine.conversionThreads)
      return (checkpoint, try checkpoint.program.encoded(threads: threads))
    }
    try requireArrayQuality(checkpoint, recipe)

    console.progress("writing")
    try Process.uninterrupted { () throws(QMError) in try AtomicFile.write(bytes, to: output) }
    let seconds = (clock.now - start).seconds
    let report = try CheckpointReport(
      source: .init(path: input, bytes: source.count),
      output: .init(path: output, bytes: bytes.count), bits: recipe.weights.bits,
      arrays: checkpoint.arrayReports(in: bytes), seconds: seconds)
    console.table(of: report.arrays)
    console.line(
      "\(Units.bytes(source.count)) → \(Units.bytes(bytes.count)), "
        + "\(Units.fixed(report.ratio, 2)) times smaller, in \(Units.seconds(seconds))")
    console.line("written to \(output)")
    try console.json(report)
    try console.finish()
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
    throw tooLow(
      worst.value.signalToNoise, of: worst.key, required: required,
      remedies: bits < 8 ? [.useBits(min(Int(bits) + 2, 8))] : [])
  }
}

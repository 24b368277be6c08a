import QMFormat
import QMOperations
import QMQuantization
import QMTensor

/// `qconvert weights.npz out.qm`: arrays without a network.
extension ConvertCommand {
  func convertCheckpoint(_ console: Console) throws(QMError) {
    let clock = ContinuousClock()
    let start = clock.now
    guard samples == nil, activations == nil, network.isEmpty, weights == nil, keepFloat.isEmpty,
      bitsFor.isEmpty, groupSize == nil, !explain
    else {
      throw QMError.usage(
        "arrays are no network: only --bits, --per-tensor and --min-sqnr act on them"
      ).within(.file(input))
    }
    console.progress("reading")
    let source = try Buffer.mapping(path: input)
    let arrays = try CheckpointFile.arrays(path: input)
    let width: Recipe.WeightWidth = BitWidth(bits).map { .codes($0) } ?? .float32
    let granularity: Granularity = perTensor ? .perTensor : .perChannel(axis: 0)
    var metadata = Program.Metadata(producer: "swift-qm \(toolVersion)")
    var digest = Digest()
    digest.update(UnsafeRawBufferPointer(source.bytes))
    metadata.sourceDigest = digest.finished()
    metadata.recipe = [
      .init("bits", "\(bits)"), .init("granularity", granularity.shortDescription),
    ]
    let (checkpoint, bytes) = try within(.file(input)) { () throws(QMError) in
      let checkpoint = try Checkpoint(
        arrays, weights: width, granularity: granularity, metadata: metadata
      ) { done in console.progress("rounding", done: done, of: arrays.count) }
      let threads = ThreadPool(threadCount: machine.conversionThreads)
      return (checkpoint, try checkpoint.program.encoded(threads: threads))
    }
    try requireArrayQuality(checkpoint)

    console.progress("writing")
    try Process.uninterrupted { () throws(QMError) in try AtomicFile.write(bytes, to: output) }
    let seconds = (clock.now - start).seconds
    let report = try CheckpointReport(
      source: .init(path: input, bytes: source.count),
      output: .init(path: output, bytes: bytes.count),
      ratio: Double(source.count) / Double(bytes.count), bits: bits,
      arrays: ArrayReport.all(of: checkpoint, in: bytes), seconds: seconds)
    console.table(of: report.arrays)
    console.line(
      "\(Units.bytes(source.count)) → \(Units.bytes(bytes.count)), "
        + "\(Units.fixed(report.ratio, 2)) times smaller, in \(Units.seconds(seconds))")
    console.line("written to \(output)")
    try console.json(report)
    try console.finish()
  }

  /// - Throws: `qualityTooLow` if an array is worse than was asked for.
  private func requireArrayQuality(_ checkpoint: Checkpoint) throws(QMError) {
    guard let bar = givenLeastSignalToNoise, bar > 0 else { return }
    let worst = checkpoint.comparisons.min {
      ($0.value.signalToNoise, $0.key) < ($1.value.signalToNoise, $1.key)
    }
    guard let worst, !(worst.value.signalToNoise >= bar) else { return }
    throw tooLow(
      worst.value.signalToNoise, of: worst.key, bar: bar,
      remedies: bits < 8 ? ["--bits \(min(bits + 2, 8))"] : [])
  }
}

private struct CheckpointReport: Encodable {
  let source: ConvertCommand.File
  let output: ConvertCommand.File
  let ratio: Double
  let bits: Int
  let arrays: [ArrayReport]
  let seconds: Double
}

/// One array of a file of weights, for `--json`.
struct ArrayReport: Encodable {
  let name: String
  let shape: [Int]
  /// How the elements are stored: `4-bit per channel`, `float32`.
  let form: String
  /// Its part of the file; scales included.
  let bytes: Int
  /// nil where the elements are the numbers given.
  let signalToNoiseDecibels: Double?
  let largestDifference: Double?

  enum CodingKeys: String, CodingKey {
    case name, shape, form, bytes
    case signalToNoiseDecibels = "sqnr_db"
    case largestDifference = "largest_difference"
  }

  static func all(of checkpoint: Checkpoint, in file: [UInt8]) throws(QMError) -> [ArrayReport] {
    let copy = try file.withUnsafeBytes { (bytes) in
      Result { () throws(QMError) in try Buffer.copying(bytes) }
    }.get()
    let byteCounts = try QMFile(copy).storedByteCounts
    let program = checkpoint.program
    // Codes and scales by the value that they are dequantized to.
    var operands: [Int: [Int]] = [:]
    for node in program.nodes { operands[node.outputs[0]] = node.inputs.compactMap(\.self) }
    return program.outputs.map { output in
      let stored = operands[output.value] ?? [output.value]
      let comparison = checkpoint.comparisons[output.name].flatMap { stored.count > 1 ? $0 : nil }
      return ArrayReport(
        name: output.name, shape: program.values[output.value].type.shape.extents ?? [],
        form: ArrayReport.form(of: program.values[stored[0]].type),
        bytes: stored.compactMap { program.values[$0].constant }
          .reduce(0) { $0 + byteCounts[$1] },
        signalToNoiseDecibels: comparison?.signalToNoise,
        largestDifference: comparison?.largestDifference)
    }
  }

  private static func form(of type: ValueType) -> String {
    guard case .weights(let bits, let granularity) = type.quantization else {
      return "\(type.elementType)"
    }
    return "\(bits.bits)-bit \(granularity.shortDescription)"
  }
}

extension Console {
  /// What became of all arrays, one a line.
  func table(of reports: [ArrayReport]) {
    table(
      ["array", "extents", "stored as", "bytes", "SQNR", "largest difference"],
      reports.map { report in
        [
          report.name.abbreviated, report.shape.map(String.init).joined(separator: "×"),
          report.form, "\(report.bytes)",
          report.signalToNoiseDecibels.map(Units.decibels) ?? "exact",
          report.largestDifference.map { Units.significant($0) } ?? "0",
        ]
      }, trailing: [3, 4, 5])
  }
}

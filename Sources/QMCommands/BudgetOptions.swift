import ArgumentParser
import QMTensor

/// A number of bytes as an option states it: `1500000`, `900kB`, `1.5MB`, `512KiB`, `1MiB`.
struct ByteLimit: ExpressibleByArgument, Hashable {
  let bytes: Int

  init(_ bytes: Int) { self.bytes = bytes }

  init?(argument: String) {
    let number = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = argument.dropFirst(number.count)
    guard let value = Double(number), let factor = ByteLimit.factors[String(unit)],
      value * factor >= 1, value * factor < 0x1p53
    else { return nil }
    bytes = Int(value * factor)
  }

  private static let factors: [String: Double] = [
    "": 1, "B": 1, "kB": 1e3, "MB": 1e6, "KiB": 0x1p10, "MiB": 0x1p20,
  ]
}

/// Options that choose the bits of a weight by what they lead to.
struct BudgetOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Choose the most bits per weight whose whole file is at most so large: 900kB, 1.5MB (10^6 \
      bytes), 512KiB, 1MiB.
      """,
      valueName: "size"))
  var targetSize: ByteLimit?

  @Flag(
    help: """
      Write nothing: print bytes and quality, predicted and measured, with 8, 6, 5, 4, 3, 2.5, 2 and \
      1.5 bits, or those that the search for a budget tries, and what the weights of each node cost.
      """)
  var dryRun = false

  @OptionGroup var metrics: MetricOptions

  @Option(
    help: ArgumentHelp(
      """
      Samples on which the metric or the agreement is measured. Default: those of --samples that \
      judge, to which nothing is fitted; all, if they have too few rows to show the agreement.
      """,
      valueName: "folder|in.npz"),
    completion: .file())
  var metricSamples: String?

  /// Whether an option asks for a search.
  var isSearch: Bool { targetSize != nil || metrics.maxDrop != nil }

  func validate() throws {
    if targetSize != nil, metrics.maxDrop != nil {
      throw ValidationError("--target-size and --max-drop contradict each other; leave one out")
    }
    if metrics.metric != nil, !isSearch, !dryRun {
      throw ValidationError(
        "--metric needs --max-drop, --target-size or --dry-run; qverify judges a finished file")
    }
    if metricSamples != nil, metrics.metric == nil, metrics.maxDrop == nil {
      throw ValidationError("--metric-samples needs --metric or --max-drop")
    }
  }
}

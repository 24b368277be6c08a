import ArgumentParser
import QMFormat
import QMQuantization

/// Options of a conversion for every tool that converts.
struct ConversionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Arrays that replace constants of the network, by name.", valueName: "checkpoint.npz"),
    completion: .file())
  var weights: String?

  @Option(
    help: """
      What weights are rounded to: fixed (codes of --bits bits), free (steps whose codes compress to \
      --bits bits on average) or auto (default: free below 8 bits).
      """)
  var grid: Recipe.Grid?

  @Option(
    help: """
      How many roundings of the whole network are tried, counted in runs: fast, default or best.
      """)
  var effort: Recipe.Effort?

  @Option(
    help: """
      Activations of convolutions and matrix products: int8 (fixed ranges), dynamic (ranges of \
      each run) or float.
      """)
  var activations: Recipe.Activations?

  @Option(
    help: ArgumentHelp(
      """
      How fixed ranges are chosen: minmax (default), percentile[:99.99], mse, deviation[:4] (mean ± 4 \
      standard deviations) or fixed:-128:255 (always this range).
      """,
      valueName: "estimator"))
  var ranges: RangeEstimator?

  @Flag(help: "Use one scale per weight tensor instead of one per output channel.")
  var perTensor = false

  @Option(
    help: ArgumentHelp(
      "Use one scale per group of N input channels; runs slower.",
      valueName: "N"))
  var groupSize: Int?

  @Option(
    help: ArgumentHelp(
      "Run nodes with matching names in float32, including their weights; may be repeated.",
      valueName: "regex"))
  var keepFloat: [String] = []

  @Option(
    help: ArgumentHelp(
      "Bits per weight for nodes with matching names; may be repeated.",
      valueName: "regex=bits"))
  var bitsFor: [String] = []

  @Option(
    name: .customLong("min-sqnr"),
    help: ArgumentHelp(
      """
      Write nothing if the signal-to-noise ratio of an output is lower; 0 accepts everything. \
      Default: 3 for networks, 0.1 for log odds of \
      probabilities, none for arrays.
      """,
      valueName: "dB"))
  var leastSignalToNoise: Double?

  @Option(
    help: ArgumentHelp(
      """
      Memory for statistics, in megabytes. With less, more passes over the samples are needed; the \
      result is the same. Default: a quarter of the machine's memory.
      """,
      valueName: "MB"))
  var memoryBudget: Int?

  @Option(
    help: ArgumentHelp(
      """
      Keep N probes in the file, 1 to 64: inputs, what the float network gives for them, and a \
      digest of what the file gives, by which qverify and an app on its device can check \
      themselves. The inputs are samples that judge, or made from noise without samples.
      """,
      valueName: "N"))
  var probes = 0

  @Option(
    name: .customLong("recipe"),
    help: ArgumentHelp(
      "Read the options from a file that --print-recipe wrote; other options override it.",
      valueName: "recipe.json"),
    completion: .file())
  var recipeFile: String?

  @OptionGroup var network: NetworkOptions

  func validate() throws {
    if let leastSignalToNoise, !leastSignalToNoise.isFinite {
      throw ValidationError("--min-sqnr \(leastSignalToNoise): expected a finite number of dB")
    }
    if let memoryBudget, !(1...1 << 40).contains(memoryBudget) {
      throw ValidationError("--memory-budget \(memoryBudget): expected 1 to 2^40 megabytes")
    }
    if !(0...Program.Probes.mostProbes).contains(probes) {
      throw ValidationError("--probes \(probes): expected 1 to \(Program.Probes.mostProbes)")
    }
    if let groupSize, groupSize < 1 || perTensor {
      throw ValidationError("--group-size \(groupSize): expected at least 1, without --per-tensor")
    }
  }
}

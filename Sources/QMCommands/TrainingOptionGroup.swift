import ArgumentParser
import QMTraining

/// Options of training.
struct TrainingOptionGroup: ParsableArguments {
  @Option(help: "Steps of training. Default: 500.")
  var steps: Int?

  @Option(help: "Times that each sample is trained on, instead of --steps.")
  var epochs: Int?

  @Option(help: "Samples of a micro-batch.")
  var batch: Int = 32

  @Option(help: "Micro-batches of a step.")
  var accumulate: Int = 1

  @Option(
    help: "Steps of recurrent layers through which gradients go back in time. 0 for all.")
  var throughTime: Int = 0

  @Flag(
    help:
      "Compute values again in the backward run instead of keeping them: less memory, more time.")
  var recompute = false

  @Option(help: "Largest learning rate. Default: the better of two short tries.")
  var rate: Float?

  @Option(help: "sgd, adam or adamw.")
  var optimizer: Optimizer.Kind = .adamw

  @Option(help: "Momentum of sgd, 0 to below 1. Default: 0.9.")
  var momentum: Float?

  @Option(
    help: "Decay of weights (L2): this times w in the gradient; with adamw beside it, decoupled.")
  var weightDecay: Float = 0

  @Option(help: "Decay of weights (L1): this times the sign of w in the gradient.")
  var absoluteDecay: Float = 0

  @Option(
    help: """
      How weights and activations are rounded: lsq (learned scales of weights), lsq+ (learned \
      scales and offsets of activations too), pact (learned bounds of activations), normalised, scaled or affine (scales of \
      both from their mean and deviation).
      """)
  var quantizer: Quantizer = .lsq

  @Option(help: "How the learning rate changes: constant, step, exponential, cosine or plateau.")
  var schedule: Schedule.Form = .cosine

  @Option(help: "Share of the steps in which the learning rate rises at first, 0 to 0.5, or in %.")
  var warmUp = Share(0.05)

  @Option(
    help: "How gradients are clipped: none, value, norm, layer, agc, zscore, percentile or greedy.")
  var clip: Clipping.Kind = .norm

  @Option(help: "The threshold of clipping.")
  var clipNorm: Float = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "What --clip value bounds each gradient to. Default: --clip-norm and its negative.",
      valueName: "lowest:highest"))
  var clipRange: GradientRange?

  @Option(
    help: """
      Bits of the gradients of a micro-batch, 8 or 32: 8 rounds them at random with one scale per \
      array; sums over micro-batches stay float32.
      """)
  var gradientBits: GradientBits = .thirtyTwo

  @Flag(
    inversion: .prefixedNo,
    help: "Divide gradients of 8 bits by the square of the scale of their codes.")
  var gradientScaling = true

  @Option(
    help: ArgumentHelp(
      """
      Let each layer wait until the norm of the sum of its gradients is above this, and update it \
      with the sum. Default: all layers are updated at each step.
      """, valueName: "threshold"))
  var segment: Float?

  @Option(help: "What a waiting layer keeps of its sum at each step, 0 to 1. Default: 1.")
  var segmentDecay: Float?

  @Option(
    help: """
      Share of the weights of each layer that become 0, the smallest first, 0 to 0.99, or in %; the file \
      gets smaller.
      """)
  var sparsity = Share(0)

  @Option(
    help: ArgumentHelp(
      "Labels of the samples: an array of the archive, or <sample>.NAME.npy.", valueName: "NAME"))
  var labels: String?

  @Option(help: "The output that the labels are for. Default: the first.")
  var labelledOutput: String?

  @Option(
    help: "Share of the float network as teacher in the loss beside labels, 0 to 1, or in %.")
  var teacher = Share(0.5)

  @Option(
    help: """
      Factor of the results of all products in the loss, which are compared with the float network's; \
      helps with few samples. 0 for the outputs alone.
      """)
  var features: Float = 1

  @Option(
    help: """
      Share of the samples that are not trained on, above 0 to 0.5, or in %: at least one, and those \
      that judge the conversion.
      """)
  var holdOut = Share(0.1)

  @Option(help: "Seed of the order of the samples.")
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp("Write every step as a line of JSON to this file.", valueName: "file"),
    completion: .file())
  var log: String?

  @Flag(help: "Go on from the checkpoint that an interrupted run left beside the output.")
  var resume = false

  func validate() throws {
    func require(_ isValid: Bool, _ option: String, _ value: some Any, _ expected: String) throws {
      guard isValid else { throw ValidationError("\(option) \(value): expected \(expected)") }
    }
    let most = TrainingOptions.mostSteps
    if let steps { try require((1...most).contains(steps), "--steps", steps, "1 to \(most)") }
    if let epochs {
      try require((1...most).contains(epochs), "--epochs", epochs, "1 to \(most)")
      if steps != nil { throw ValidationError("--epochs replaces --steps; leave one out") }
    }
    try require((1...65_536).contains(batch), "--batch", batch, "1 to 65536")
    try require((1...65_536).contains(accumulate), "--accumulate", accumulate, "1 to 65536")
    try require(
      (0...1_000_000).contains(throughTime), "--through-time", throughTime, "0 to 1000000")
    if let rate { try require(rate > 0 && rate <= 100, "--rate", rate, "above 0, at most 100") }
    try require(clipNorm > 0 && clipNorm.isFinite, "--clip-norm", clipNorm, "a number above 0")
    try require(
      holdOut.value > 0 && holdOut.value <= 0.5, "--hold-out", holdOut, "above 0, at most 0.5")
    if let momentum {
      try require(momentum >= 0 && momentum < 1, "--momentum", momentum, "0 to below 1")
      if optimizer != .sgd {
        throw ValidationError("--momentum needs --optimizer sgd; \(optimizer.rawValue) has its own")
      }
    }
    for (option, decay) in [
      ("--weight-decay", weightDecay), ("--absolute-decay", absoluteDecay),
    ] {
      try require(decay >= 0 && decay.isFinite, option, decay, "0 or more")
    }
    try require((0...0.5).contains(warmUp.value), "--warm-up", warmUp, "0 to 0.5")
    if clipRange != nil, clip != .value {
      throw ValidationError("--clip-range needs --clip value")
    }
    if !gradientScaling, gradientBits == .thirtyTwo {
      throw ValidationError("--no-gradient-scaling needs --gradient-bits 8")
    }
    if let segment {
      try require(segment >= 0 && segment.isFinite, "--segment", segment, "0 or more")
    }
    if let segmentDecay {
      try require((0...1).contains(segmentDecay), "--segment-decay", segmentDecay, "0 to 1")
      if segment == nil { throw ValidationError("--segment-decay needs --segment") }
    }
    try require((0...0.99).contains(sparsity.value), "--sparsity", sparsity, "0 to 0.99")
    try require((0...1).contains(teacher.value), "--teacher", teacher, "0 to 1")
    try require(features >= 0 && features.isFinite, "--features", features, "0 or more")
    if labels == nil, labelledOutput != nil {
      throw ValidationError("--labelled-output needs --labels")
    }
  }

  var options: TrainingOptions {
    var options = TrainingOptions()
    if let steps { options.steps = steps }
    options.epochs = epochs
    options.batch = batch
    options.accumulate = accumulate
    options.throughTime = throughTime
    options.recompute = recompute
    options.rate = rate
    options.optimizer = optimizer
    if let momentum { options.momentum = momentum }
    options.weightDecay = weightDecay
    options.absoluteDecay = absoluteDecay
    options.schedule = schedule
    options.warmUp = warmUp.value
    options.quantizer = quantizer
    options.clip = clip
    options.clipThreshold = clipNorm
    options.clipRange = clipRange?.bounds
    options.gradientBits = gradientBits
    options.scalesGradients = gradientScaling
    options.segmentThreshold = segment
    if let segmentDecay { options.segmentDecay = segmentDecay }
    options.sparsity = sparsity.value
    options.holdOut = holdOut.value
    options.seed = seed
    options.labels = labels
    options.labelledOutput = labelledOutput
    options.teacherShare = teacher.value
    options.featureShare = features
    return options
  }
}

extension Optimizer.Kind: ExpressibleByArgument {}
extension Schedule.Form: ExpressibleByArgument {}
extension Clipping.Kind: ExpressibleByArgument {}
extension Initialization: ExpressibleByArgument {}
extension Quantizer: ExpressibleByArgument {}
extension BatchNormalizationForm: ExpressibleByArgument {}
extension GradientBits: ExpressibleByArgument {}

/// A share as an option states it: `0.1` or `10%`.
struct Share: ExpressibleByArgument, CustomStringConvertible {
  let value: Float
  let description: String

  init(_ value: Float) {
    self.value = value
    description = "\(value)"
  }

  init?(argument: String) {
    let isPercentage = argument.hasSuffix("%")
    guard let number = Float(isPercentage ? String(argument.dropLast()) : argument) else {
      return nil
    }
    value = isPercentage ? number / 100 : number
    description = argument
  }

  var defaultValueDescription: String { description }
}

/// A range of gradients as an option states it: `-0.1:0.2`.
struct GradientRange: ExpressibleByArgument {
  let bounds: ClosedRange<Float>

  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map { Float($0) }
    guard parts.count == 2, let lowest = parts[0], let highest = parts[1], lowest.isFinite,
      highest.isFinite, lowest <= 0, highest >= 0, lowest < highest
    else { return nil }
    bounds = lowest...highest
  }
}

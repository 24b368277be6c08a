import QMTensor

/// How a network is trained.
public struct TrainingOptions: Sendable, Codable, Hashable {
  /// Steps of the optimizer.
  public var steps = 500
  /// Times that each sample is trained on, in place of ``steps``; nil for these.
  public var epochs: Int?
  /// Samples of a micro-batch.
  public var batch = 32
  /// Micro-batches of a step.
  public var accumulate = 1
  /// Largest learning rate; nil for the better of two short tries. With codes, and adam or adamw, it is relative:
  /// to the scale of the codes for weights, to the size of other numbers.
  public var rate: Float?
  public var optimizer = Optimizer.Kind.adamw
  /// How weights and activations are rounded. With lsq, activations keep the converter's scales: with
  /// 8 bits, learning them too gained nothing.
  public var quantizer = Quantizer.lsq
  public var momentum: Float = 0.9
  /// Factor of w in the decay.
  public var weightDecay: Float = 0
  /// Factor of sign(w) in the decay.
  public var absoluteDecay: Float = 0
  public var schedule = Schedule.Form.cosine
  /// Share of the steps in which the rate rises.
  public var warmUp: Float = 0.05
  public var clip = Clipping.Kind.norm
  public var clipThreshold: Float = 1
  /// What value clipping bounds each gradient to; nil for ±``clipThreshold``.
  public var clipRange: ClosedRange<Float>?
  /// Bits of the gradients of a micro-batch.
  public var gradientBits = GradientBits.thirtyTwo
  /// Whether gradients of 8 bits are divided by the square of the scale of their codes.
  public var scalesGradients = true
  /// The norm that the sum of a layer's gradients must exceed before the layer is updated; nil to
  /// update all at each step.
  public var segmentThreshold: Float?
  /// What is kept of that sum from one step to the next, 0 to 1.
  public var segmentDecay: Float = 1
  /// Share of the weights of each layer that become 0, from 0 to below 1.
  public var sparsity: Float = 0
  /// Share of the samples that are not trained on.
  public var holdOut: Float = 0.1
  public var seed: UInt64 = 0
  /// The name of the labels among the samples' expected outputs; nil without labels.
  public var labels: String?
  /// The output that the labels are for; nil for the first that they fit.
  public var labelledOutput: String?
  /// Share of the float network's outputs in the loss; labels have the rest. Without labels it is 1.
  public var teacherShare: Float = 0.5
  /// Factor of the mean relative error of the results of all products, compared with the float
  /// network's, in the loss; 0 for the outputs alone.
  ///
  /// Source: Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", section 2.2; Li et al. 2021,
  /// "BRECQ", section 3.2.
  public var featureShare: Float = 1
  /// What batch normalizations of a float network do; nil for trained statistics if the weights start
  /// anew, and frozen ones if they start as the network's.
  public var batchNormalization: BatchNormalizationForm?
  /// Steps of a recurrent layer through which gradients go back in time; 0 for all.
  ///
  /// Source: Williams and Peng 1990, "An Efficient Gradient-Based Algorithm for On-Line Training of
  /// Recurrent Network Trajectories" (truncated backpropagation through time).
  public var throughTime = 0
  /// Whether a pass computes values again in its backward run instead of keeping them: less memory,
  /// more time, the same result. What the loss compares is kept: with features, the results of all
  /// products.
  public var recompute = false

  /// The defaults.
  public init() {}
}

/// Bits of the gradients of a micro-batch; sums of them are float32.
public enum GradientBits: Int, Sendable, Codable, CaseIterable {
  case eight = 8
  case thirtyTwo = 32
}

extension TrainingOptions {
  /// Steps of a run.
  /// - Parameter samples: number of those that are trained on.
  /// - Throws: `usage` if there are too many, or too few to prune in.
  func stepCount(samples: Int) throws(QMError) -> Int {
    let size = batch * accumulate
    let count = epochs.map { ($0 * samples + size - 1) / size } ?? steps
    guard count <= TrainingOptions.mostSteps else {
      throw .usage("\(count) steps; at most \(TrainingOptions.mostSteps) are taken")
    }
    guard sparsity == 0 || count >= TrainingOptions.fewestPruningSteps else {
      throw .usage(
        "\(count) steps; pruning takes at least \(TrainingOptions.fewestPruningSteps)")
    }
    return count
  }

  /// Steps in which the rate rises.
  func warmUpSteps(of steps: Int) -> Int { Int(Float(steps) * warmUp) }

  /// Steps of a run at most.
  public static let mostSteps = 10_000_000
  /// Pruning needs some steps before, between and after its updates.
  private static let fewestPruningSteps = 10
}

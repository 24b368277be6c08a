/// What a step of training did.
public struct StepReport: Sendable, Codable, Hashable {
  /// Number of the step, counted from 0.
  public let step: Int
  /// Mean loss of the step's samples.
  public let loss: Double
  /// The learning rate.
  public let rate: Float
  /// The Euclidean norm of all gradients before clipping.
  public let norm: Double
  /// What the norm was compared with; nil without one threshold for all.
  public let threshold: Double?
  /// Whether any gradient was reduced.
  public let isClipped: Bool
  /// The loss on the samples that are held out; nil if it was not measured after this step.
  public package(set) var heldOutLoss: Double?
  /// The task's metric on the same samples; nil if it was not measured after this step.
  public package(set) var metric: MetricReport?
  /// Bits of all codes, as an entropy coder of order 0 stores them.
  public package(set) var bits = 0.0
  /// Weights whose code this step changed.
  public package(set) var flips = 0
  /// Share of the elements of activations that were beyond their codes, 0 to 1.
  public package(set) var saturatedShare = 0.0
  /// Share of the arrays of numbers that were updated, 0 to 1; nil unless each waits for its own sum.
  public package(set) var updatedShare: Double?
  /// What happened, if training went back to the best state.
  public package(set) var divergence: String?

  /// A step before anything but its loss and gradients is known.
  package init(
    step: Int, loss: Double, rate: Float, norm: Double, threshold: Double?, isClipped: Bool
  ) {
    self.step = step
    self.loss = loss
    self.rate = rate
    self.norm = norm
    self.threshold = threshold
    self.isClipped = isClipped
  }
}

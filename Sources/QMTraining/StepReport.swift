import QMReport

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
  public internal(set) var heldOutLoss: Double?
  /// The task's metric on the same samples; nil if it was not measured after this step.
  public internal(set) var metric: MetricReport?
  /// Bits of all codes, as an entropy coder of order 0 stores them.
  public internal(set) var bits = 0.0
  /// Weights whose code this step changed.
  public internal(set) var flips = 0
  /// Share of the elements of activations that were beyond their codes, 0 to 1.
  public internal(set) var saturatedShare = 0.0
  /// Share of the arrays of numbers that were updated, 0 to 1; nil unless each waits for its own sum.
  public internal(set) var updatedShare: Double?
  /// What happened, if training went back to the best state.
  public internal(set) var divergence: String?
}

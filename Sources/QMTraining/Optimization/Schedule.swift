import QMOperations

/// The learning rate over the steps of a run, as a factor of the base rate. A linear warm-up may stand
/// in front of every form.
public struct Schedule: Hashable, Sendable, Codable {
  /// The form after the warm-up.
  public enum Form: String, Codable, Sendable, CaseIterable {
    /// 1
    case constant
    /// A tenth after each third of the steps.
    case step
    /// 0.01^(t / T)
    case exponential
    /// floor + (1 − floor) · (1 + cos(π · t / T)) / 2, with the floor 1/20.
    ///
    /// Source: Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.
    case cosine
    /// Half as much each time that the held-out loss did not fall for ``patience`` measurements.
    case plateau
  }

  package let form: Form
  package let stepCount: Int
  /// Steps of the warm-up.
  package let warmUp: Int
  /// Factor by which the held-out loss has reduced the rate so far.
  package var plateauFactor: Float = 1
  private var best = Double.infinity
  private var worse = 0

  package static let patience = 3

  package init(_ form: Form, steps: Int, warmUp: Int) {
    self.form = form
    stepCount = steps
    self.warmUp = warmUp
  }

  /// Whether a run can have left these numbers: a file may hold any.
  var isValid: Bool {
    (0...max(stepCount, 0)).contains(warmUp) && plateauFactor >= 0 && plateauFactor <= 1
      && (0...Schedule.patience).contains(worse)
  }

  /// The factor for step `step`, counted from 0.
  package func factor(at step: Int) -> Float {
    if step < warmUp { return Float(step + 1) / Float(warmUp + 1) }
    let share = Float(step - warmUp) / Float(max(stepCount - warmUp, 1))
    switch form {
    case .constant: return 1
    case .step: return share < 1 / 3 ? 1 : share < 2 / 3 ? 0.1 : 0.01
    case .exponential: return UnaryFunction.exponential(share * -4.6051702)
    case .cosine: return 0.05 + 0.475 * (1 + UnaryFunction.cosine(share * .pi))
    case .plateau: return plateauFactor
    }
  }

  /// Tells the schedule the loss on the held-out samples.
  package mutating func note(heldOutLoss loss: Double) {
    guard form == .plateau else { return }
    if loss < best {
      (best, worse) = (loss, 0)
      return
    }
    worse += 1
    if worse >= Schedule.patience {
      plateauFactor /= 2
      worse = 0
    }
  }
}

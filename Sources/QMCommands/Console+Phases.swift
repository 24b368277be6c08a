import QMQuantization

extension Console {
  /// Shows the progress of a conversion.
  func progress(_ phase: Conversion.Phase) {
    switch phase {
    case .simplifying: progress("simplifying")
    case .calibrating(let done, let total): progress("calibrating", done: done, of: total)
    case .testing(let done, let total):
      progress("testing activations", done: done, of: total)
    case .rounding: progress("rounding")
    case .measuring(let done, let total): progress("measuring", done: done, of: total)
    }
  }
}

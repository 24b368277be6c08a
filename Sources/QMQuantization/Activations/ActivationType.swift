/// How integer operations read an activation.
enum ActivationType: Int, CaseIterable, Hashable, Sendable {
  /// int8 codes with a scale and zero point for all runs.
  case int8
  /// int8 codes, each row or sample with a scale and zero point of its own that the run computes.
  case dynamic
  /// int16 codes with a scale for all runs and zero point 0.
  case int16
  /// Unrounded.
  case float
}

extension Recipe.Prices {
  subscript(type: ActivationType) -> Double {
    switch type {
    case .int8: int8
    case .dynamic: dynamic
    case .int16: int16
    case .float: float
    }
  }
}

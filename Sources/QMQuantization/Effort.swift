/// What the steps of a conversion may try, by the recipe's effort.
extension Recipe.Effort {
  /// Factors of the least bound of the weights' errors for which a network is rounded and run as a
  /// whole.
  var boundFactors: [Double] {
    switch self {
    case .fast: [2]
    case .standard: [1.5, 2, 3, 6]
    case .best: [1.25, 1.5, 2, 2.5, 3, 4, 6, 10]
    }
  }

  /// Steps of the bisection for the factor of all steps.
  var refinements: Int { self == .best ? 7 : 4 }

  /// Whether the effect of single roundings on the network's outputs is measured.
  var measuresSingleRoundings: Bool { self != .fast }

  /// Runs of one sample that the contributions of activations may take.
  var runsOfContributions: Int { self == .best ? 1920 : 480 }

  /// Whole programs that the search for types of activations may measure on its path.
  var probes: Int { self == .best ? 12 : 8 }

  /// Number of times that a set of corrected biases is halved.
  var halvings: Int {
    switch self {
    case .fast: 0
    case .standard: 2
    case .best: 4
    }
  }

  /// The part of the recipe's tolerance that outputs may use.
  var shareOfTolerance: Double { self == .best ? 0.5 : 1 }
}

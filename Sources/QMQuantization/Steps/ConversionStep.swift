import QMGraph
import QMTensor

/// One decision of a conversion: it says what it must know of the samples, and changes the plan.
protocol ConversionStep: Sendable {
  /// What must be known of the float network over all samples before
  /// ``apply(to:progress:)``; it follows from the graph and the recipe.
  func observations(_ state: ConversionState) -> Set<Observation>

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError)
}

extension ConversionStep {
  func observations(_ state: ConversionState) -> Set<Observation> { [] }
}

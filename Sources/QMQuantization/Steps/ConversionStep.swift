import QMGraph
import QMTensor

/// One decision of a conversion: it states the statistics that it needs, and changes the plan.
protocol ConversionStep: Sendable {
  /// The statistics of the float network that ``apply(to:progress:)`` needs. They may depend on the
  /// graph and the recipe only.
  func observations(_ state: ConversionState) -> Set<Observation>

  /// Changes the plan.
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError)
}

extension ConversionStep {
  func observations(_ state: ConversionState) -> Set<Observation> { [] }
}

import QMGraph
import QMTensor

/// One decision of a conversion: it says what it must see of the samples, and changes the plan.
protocol ConversionStep: Sendable {
  /// Whether ``observations(_:)`` follows from the plan as the steps before left it. Other steps are
  /// served together, by one run over the samples.
  var observesPlan: Bool { get }

  /// What must be known before ``apply(to:progress:)``.
  func observations(_ state: ConversionState) -> Set<Observation>

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError)
}

extension ConversionStep {
  var observesPlan: Bool { false }
  func observations(_ state: ConversionState) -> Set<Observation> { [] }
}

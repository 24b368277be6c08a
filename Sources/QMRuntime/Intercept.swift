import QMOperations
import QMTensor

/// Rewrites some values during a run, before the nodes that read them run. One use is to measure
/// how rounding a value affects the outputs.
///
/// The caller's tensors are not changed: inputs among the values are copied first.
public struct Intercept {
  /// Receives a value's index in the program and its memory, valid during the call.
  public typealias Body = (_ value: Int, _ view: TensorView) throws(QMError) -> Void

  let values: Set<Int>
  let body: Body

  /// An intercept of some values.
  /// - Parameters:
  ///   - values: indices in the program of the inputs and intermediate values to rewrite. Constants
  ///     among them are ignored, also those that are computed before the run.
  ///   - body: called with each value once it is computed, inputs first.
  public init(of values: Set<Int>, _ body: @escaping Body) {
    self.values = values
    self.body = body
  }
}

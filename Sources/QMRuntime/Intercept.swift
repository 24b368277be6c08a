import QMOperations
import QMTensor

/// Rewrites some values of a run before their readers run: what rounding a value costs at the
/// outputs, say.
///
/// The caller's tensors stay as they are: an input among the values is copied first.
public struct Intercept {
  /// Receives a value's index in the program and its memory, valid during the call.
  public typealias Body = (_ value: Int, _ view: TensorView) throws(QMError) -> Void

  let values: Set<Int>
  let body: Body

  /// - Parameters:
  ///   - values: indices in the program of the inputs and results to rewrite. A value that is
  ///     known before the run is a constant, and stays.
  ///   - body: called with each as it is computed, inputs first.
  public init(of values: Set<Int>, _ body: @escaping Body) {
    self.values = values
    self.body = body
  }
}

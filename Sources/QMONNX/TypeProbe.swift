import QMGraph
import QMTensor

/// Computes the types of intermediate values of a network.
struct TypeProbe {
  let network: ONNXGraph
  /// Makes a builder without nodes.
  let makeBuilder: () -> GraphBuilder

  /// Reads the nodes before the value.
  /// - Returns: nil if one of them is unsupported.
  /// - Throws: `usage` if no value has the name; `malformed` if a node is malformed.
  func type(of name: String) throws(QMError) -> ValueType? {
    var part = network
    try part.cut(to: [name])
    let builder = makeBuilder()
    do throws(QMError) { _ = try builder.build(part) } catch {
      guard error.code == .unsupported else { throw error }
      return nil
    }
    return builder.graph[builder.graph.outputs[0].value].type
  }
}

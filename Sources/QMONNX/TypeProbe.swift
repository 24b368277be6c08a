import QMGraph
import QMTensor

/// Types of values in the middle of a network, as the network computes them.
struct TypeProbe {
  let network: ONNXGraph
  /// A builder that has read nothing yet.
  let makeBuilder: () -> GraphBuilder

  /// Reads the nodes in front of the value.
  /// - Returns: nil where one of them cannot be read.
  /// - Throws: `usage` if no value has the name; `malformed` for what contradicts itself.
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

import QMFormat
import QMOperations
import QMTensor

/// A program as a float graph with Quantize → Dequantize pairs, the form in which ``Graph/lowered()``
/// got it: channels are first, weights are codes with a Dequantize, and no product has an epilogue.
///
/// The graph computes what the program computes, up to float rounding and the codes next to a tie. Where
/// no pair says what the program does, the graph computes in float32, more exactly than the program;
/// ``floatNodes`` lists these nodes.
public struct RaisedProgram: Sendable {
  /// What the graph keeps of the program's codes.
  public enum Form: Hashable, Sendable {
    /// Weights are codes, and values that the program stores as codes are rounded to them.
    case codes
    /// Nothing: weights are their dequantized numbers, and no value is rounded.
    case float
  }

  /// A node that the program computes on integers and the graph in float32.
  public struct FloatNode: Hashable, Sendable {
    /// The user's name of the node.
    public let name: String
    /// The name of its operation.
    public let operation: String
    /// Why no Quantize → Dequantize pair says what the program does.
    public let reason: String

    /// A node from its parts.
    package init(name: String, operation: String, reason: String) {
      self.name = name
      self.operation = operation
      self.reason = reason
    }
  }

  /// The float graph. Its inputs and outputs have the names of the program's.
  public let graph: Graph
  /// The nodes that the graph computes more exactly than the program; empty for the form `float`.
  public let floatNodes: [FloatNode]
}

extension Program {
  /// This program as a float graph.
  /// - Throws: `unsupported` for codes whose scales are not known before the run; `malformed` for a
  ///   program that was not validated; `outOfMemory`.
  public func raised(_ form: RaisedProgram.Form) throws(QMError) -> RaisedProgram {
    var raising = try Raising(self, form)
    for index in nodes.indices {
      try within(nodes[index].context) { () throws(QMError) in try raising.raise(index) }
    }
    return try raising.finish()
  }
}

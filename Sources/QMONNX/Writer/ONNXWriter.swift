import QMGraph
import QMOperations
import QMTensor

/// Writes a float graph as an `.onnx` file, with the operators of ONNX's operator set 21.
///
/// Codes of weights become int4 or int8 tensors with a DequantizeLinear, Quantize and Dequantize become
/// QuantizeLinear and DequantizeLinear. Inputs and outputs keep their names, and values theirs where
/// ONNX allows it.
public enum ONNXWriter {
  /// The version of ONNX's operator set that is written: the first with integers of 4 bits and with
  /// scales per group.
  public static let opset = 21
  /// The version of the file format that belongs to it.
  static let irVersion = 10

  /// What was written.
  public struct Information: Hashable, Sendable {
    /// Number of ONNX nodes.
    public var nodeCount: Int
    /// Number of tensors with codes of 4 and of 8 bits that are dequantized as weights.
    public var codedWeights: Int
    /// The nodes whose codes of weights ONNX cannot express, and that get float32 weights.
    public var floatNodes: [RaisedProgram.FloatNode]
  }

  /// The bytes of the file, and facts about it. Equal graphs give equal bytes.
  /// - Parameters:
  ///   - producer: name of the program that writes the file.
  ///   - version: its version.
  /// - Throws: `unsupported` for an operation that ONNX cannot express, with the node as context, and
  ///   for a file of 2 GiB or more; `outOfMemory`.
  public static func encode(
    _ graph: Graph, producer: String, version: String
  ) throws(QMError) -> (bytes: Buffer, information: Information) {
    let (written, floatNodes) = try written(graph)
    let model = ONNXModel(
      irVersion: irVersion, producer: producer, operatorSets: ["": opset], functions: [],
      graph: written)
    let codes = Set(written.initializers.filter(\.isCodes).map(\.name))
    return (
      try model.packed(version: version),
      Information(
        nodeCount: written.nodes.count,
        codedWeights: written.nodes.count {
          $0.operation == "DequantizeLinear" && codes.contains($0.inputs[0])
        }, floatNodes: floatNodes)
    )
  }
}

extension ONNXWriter {
  /// The float32 constants of more than one element that a file of the graph would hold, by the names
  /// and in the shapes that they have there.
  /// - Throws: as ``encode(_:producer:version:)``.
  public static func weights(
    of graph: Graph
  ) throws(QMError) -> [(name: String, tensor: Tensor)] {
    try written(graph).network.initializers.compactMap { initializer in
      guard let tensor = initializer.elements, tensor.elementType == .float32,
        tensor.elementCount > 1
      else { return nil }
      return (initializer.name, tensor)
    }
  }

  private static func written(
    _ graph: Graph
  ) throws(QMError) -> (network: ONNXGraph, floatNodes: [RaisedProgram.FloatNode]) {
    var writer = try GraphWriter(graph)
    for node in graph.nodes {
      try within(.node(name: node.name, operation: node.operation.name)) { () throws(QMError) in
        try writer.write(node)
      }
    }
    return (try writer.finish(), writer.floatNodes)
  }
}

extension ONNXTensor {
  /// Whether the elements are int8 or int4.
  fileprivate var isCodes: Bool { dataType == ElementType.int8.onnxType || dataType == int4Type }
}

/// The number of INT4 in TensorProto.DataType.
let int4Type: Int32 = 22

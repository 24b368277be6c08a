import QMTensor

// An ONNX model as Swift values, independent of protobuf-c.

struct ONNXModel {
  var irVersion: Int
  var producer: String
  /// Version of each imported operator set; the default domain is "".
  var operatorSets: [String: Int]
  /// The functions that the file defines.
  var functions: [ONNXFunction]
  var graph: ONNXGraph
}

/// A function that the file defines: nodes that stand in place of each node that calls it.
struct ONNXFunction {
  /// What a node calls it by.
  struct Key: Hashable {
    var domain: String
    var name: String
    /// Distinguishes functions of one name; mostly empty.
    var overload: String

    /// "domain.name", for messages.
    var text: String { (domain.isEmpty ? name : "\(domain).\(name)").abbreviated }
  }
  var key: Key
  var inputs: [String]
  var outputs: [String]
  /// The attributes that a call may leave out.
  var defaults: [ONNXAttribute]
  var nodes: [ONNXNode]
  /// Version of each operator set that the function imports.
  var operatorSets: [String: Int]
}

struct ONNXGraph {
  var name: String
  var nodes: [ONNXNode]
  var initializers: [ONNXTensor]
  var inputs: [ONNXValueInfo]
  var outputs: [ONNXValueInfo]
  var sparseInitializerCount: Int
}

struct ONNXNode {
  var name: String
  /// ONNX's name of the operator (`op_type`).
  var operation: String
  /// "" is ONNX's own domain, which files also write as "ai.onnx".
  var domain: String
  /// Distinguishes functions of one name; mostly empty.
  var overload = ""
  /// Version of ONNX's own operator set, where it is not that of the model: in a function with one
  /// of its own.
  var opset: Int?
  /// Names of values; "" where an optional one is absent.
  var inputs: [String]
  var outputs: [String]
  var attributes: [ONNXAttribute]
  /// Where the node begins in the file.
  var position: Int

  /// The operator's name, with its domain unless that is ONNX's own: `com.microsoft.Gelu`.
  var fullOperation: String { domain.isEmpty ? operation : "\(domain).\(operation)" }

  /// What the node calls, if that is a function that the file defines.
  var functionKey: ONNXFunction.Key {
    ONNXFunction.Key(domain: domain, name: operation, overload: overload)
  }
}

struct ONNXAttribute {
  enum Value {
    case float(Float)
    case integer(Int64)
    case string([UInt8])
    case tensor(ONNXTensor)
    case graph(ONNXGraph)
    case floats([Float])
    case integers([Int64])
    case strings([[UInt8]])
    /// A kind that no supported operator has: sparse tensors, types, lists of graphs.
    case other(String)
    /// A reference to an attribute of the enclosing function.
    case reference(String)
  }
  var name: String
  var value: Value

  /// For messages: "a float", "integers".
  var kind: String {
    switch value {
    case .float: "a float"
    case .integer: "an integer"
    case .string: "a string"
    case .tensor: "a tensor"
    case .graph: "a graph"
    case .floats: "floats"
    case .integers: "integers"
    case .strings: "strings"
    case .other(let kind): kind
    case .reference: "a reference to a function's attribute"
    }
  }
}

/// An input or output of a graph.
struct ONNXValueInfo {
  struct TensorType {
    /// TensorProto.DataType.
    var dataType: Int32
    /// nil if the file declares no shape.
    var axes: [Shape.Axis]?
  }
  var name: String
  /// nil if the value is not a tensor or has no type.
  var type: TensorType?
}

/// A tensor. When a model is read, its elements are still in the model's file or in another one.
struct ONNXTensor {
  var name: String
  /// TensorProto.DataType.
  var dataType: Int32
  var shape: [Int64]
  /// Where the elements are in the model's file.
  var pieces: [WireScan.Piece]
  /// Keys and values of `external_data`; nil if the elements are in the model's file.
  var external: [(key: String, value: String)]?
  /// The elements of a tensor that is to be written. Integers of 4 bits are packed into uint8, the
  /// first in the lower half.
  var elements: Tensor?
}

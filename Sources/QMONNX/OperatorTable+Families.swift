import QMOperations
import QMTensor

// How the operators of a family are described in the table.

extension OperatorTable {
  /// An operator that ONNX Runtime defines. The opsets are those of ONNX's own operators in the same
  /// file.
  static func microsoft(
    _ name: String, inputs: ClosedRange<Int>, runs mode: ExecutionMode? = .integer,
    _ note: String = "", _ read: @escaping @Sendable (NodeReader) throws(QMError) -> Void
  ) -> ONNXOperator {
    ONNXOperator("com.microsoft.\(name)", inputs: inputs, mode, note, read)
  }

  static func recurrent(
    _ name: String, inputs: ClosedRange<Int>, _ kind: RecurrentKind
  ) -> ONNXOperator {
    ONNXOperator(name, inputs: inputs, .integer, "without the activation ScaledTanh") {
      (node) throws(QMError) in try node.recurrent(kind)
    }
  }

  /// An operator that becomes several operations.
  static func decomposed(
    _ name: String, since first: Int = 7, inputs: ClosedRange<Int>,
    _ mode: ExecutionMode? = .float, _ note: String = "",
    _ read: @escaping @Sendable (NodeReader) throws(QMError) -> Void
  ) -> ONNXOperator {
    ONNXOperator(name, since: first, inputs: inputs, mode, note, read)
  }

  /// An operator on sequences of tensors, whose lengths are known while the network is read.
  static func sequence(
    _ name: String, inputs: ClosedRange<Int>, _ mode: ExecutionMode? = nil,
    _ read: @escaping @Sendable (NodeReader) throws(QMError) -> Void
  ) -> ONNXOperator {
    ONNXOperator(name, since: 11, inputs: inputs, mode, "lengths known before the run", read)
  }

  /// An operator of the domain ai.onnx.ml.
  static func learned(
    _ name: String, inputs: ClosedRange<Int>, _ mode: ExecutionMode? = .integer,
    _ note: String = "", _ read: @escaping @Sendable (NodeReader) throws(QMError) -> Void
  ) -> ONNXOperator {
    ONNXOperator("ai.onnx.ml.\(name)", since: 1, inputs: inputs, mode, note, read)
  }

  /// Note of operators that read codes but do not cause their operands to be quantized.
  static let whereCoded = "on codes if other nodes need them quantized"

  static func binary(
    _ name: String, _ function: BinaryFunction, _ note: String = ""
  ) -> ONNXOperator {
    ONNXOperator(name, inputs: 2...2, .integer, note) { (node) throws(QMError) in
      try node.binary(function)
    }
  }

  static func unary(
    _ name: String, since first: Int = 7,
    _ function: @escaping @Sendable (NodeReader) throws(QMError) -> UnaryFunction
  ) -> ONNXOperator {
    ONNXOperator(name, since: first, inputs: 1...1, .table) { (node) throws(QMError) in
      try node.unary(function(node))
    }
  }

  static func comparison(
    _ name: String, since first: Int = 7,
    _ function: Compare.Function
  ) -> ONNXOperator {
    ONNXOperator(name, since: first, inputs: 2...2, .integer, whereCoded) {
      (node) throws(QMError) in
      try node.comparison(function)
    }
  }

  static func logic(_ name: String, _ function: Logic.Function) -> ONNXOperator {
    ONNXOperator(name, inputs: 2...2, .move) { (node) throws(QMError) in
      try node.logic(function)
    }
  }

  static func reduction(
    _ name: String, _ kind: Reduction.Kind, axesAreInputSince opset: Int
  ) -> ONNXOperator {
    let isInteger = [.mean, .sum, .maximum, .minimum].contains(kind)
    return ONNXOperator(name, inputs: 1...2, isInteger ? .integer : .float, "constant axes") {
      (node) throws(QMError) in try node.reduction(kind, axesAreInputSince: opset)
    }
  }
}

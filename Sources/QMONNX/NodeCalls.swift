import QMOperations
import QMTensor

// Operators that ONNX defines by other operators are read as these.

extension NodeReader {
  /// The version of ONNX's operator set that ``call(_:_:_:outputs:)`` speaks.
  private static let calledOpset = 20

  /// The outputs of one of ONNX's operators, opset 20, on these values.
  /// - Parameter inputs: nil for an optional input that is absent.
  func call(
    _ operation: String, _ inputs: [Value?], _ attributes: [String: ONNXAttribute.Value] = [:],
    outputs count: Int
  ) throws(QMError) -> [Value] {
    let name = "\(node.label)/\(operation)"
    let results = try results(
      of: operation, inputs, attributes.map { ONNXAttribute(name: $0.key, value: $0.value) },
      named: (0..<count).map { $0 == 0 ? name : "\(name):\($0)" }, opset: Self.calledOpset)
    guard results.count >= count else {
      throw .internalFault("\(operation) has \(results.count) results, expected \(count)")
    }
    return Array(results.prefix(count))
  }

  /// The only output of one of ONNX's operators, opset 20, on these values.
  func call(
    _ operation: String, _ inputs: Value?..., with attributes: [String: ONNXAttribute.Value] = [:]
  ) throws(QMError) -> Value {
    try call(operation, inputs, attributes, outputs: 1)[0]
  }

  /// A constant of int64 along one axis.
  func integers(_ numbers: [Int]) throws(QMError) -> Value { try addConstant(numbers, "integers") }

  /// A constant without axes that has the type of another value.
  func number(_ number: Double, like value: Value) throws(QMError) -> Value {
    let float = try Tensor([], [Float(number)])
    guard !value.type.isFloatingPoint else {
      return Value(place: addConstant(float, "number").place, type: value.type)
    }
    return addConstant(try Tensor([], [Int64(number)]).converted(to: value.type), "number")
  }

  func reshaped(_ value: Value, _ extents: [Int]) throws(QMError) -> Value {
    try call("Reshape", value, integers(extents))
  }

  func transposed(_ value: Value, _ permutation: [Int]) throws(QMError) -> Value {
    permutation == Array(permutation.indices)
      ? value
      : try call(
        "Transpose", value, with: ["perm": .integers(permutation.map(Int64.init))])
  }

  /// - Parameter last: the element after the last; beyond the end for all.
  func sliced(
    _ value: Value, axis: Int, from first: Int, to last: Int, step: Int = 1
  ) throws(QMError) -> Value {
    try call(
      "Slice", value, integers([first]), integers([last]), integers([axis]), integers([step]))
  }

  /// The elements of an axis in the opposite order.
  func reversed(_ value: Value, axis: Int) throws(QMError) -> Value {
    try sliced(value, axis: axis, from: -1, to: Int(Int32.min), step: -1)
  }

  /// The extents of a value.
  /// - Throws: `unsupported` if one of them is dynamic.
  func fixedExtents(_ value: Value, _ what: String) throws(QMError) -> [Int] {
    guard let extents = shape(value).extents else {
      throw .unsupported(
        "\(what) has the shape \(shape(value)); expected fixed axes",
        remedies: .changeModel(how: "export the model with fixed shapes"), .cutBefore)
    }
    return extents
  }

  /// The one integer of a constant input; nil if the input is absent.
  func constantInteger(_ index: Int, _ what: String) throws(QMError) -> Int? {
    guard let numbers = try constantIntegers(index, what) else { return nil }
    guard numbers.count == 1 else {
      throw .malformed("the \(what) (input \(index)) are \(numbers.count) numbers, expected one")
    }
    return numbers[0]
  }
}

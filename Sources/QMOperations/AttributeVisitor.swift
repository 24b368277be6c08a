import QMTensor

/// Visits the attributes of an operation by name, in the order in which a file holds them.
///
/// Each operation lists its attributes once, in
/// ``OperationProtocol/visitAttributes(_:)``. A visitor leaves a value unchanged (to write, check
/// or describe it) or replaces it (to read a file), so that one list serves all of them.
public protocol AttributeVisitor {
  /// A Boolean.
  mutating func visit(_ name: String, _ value: inout Bool) throws(QMError)

  /// A signed 32-bit integer.
  mutating func visit(_ name: String, _ value: inout Int) throws(QMError)

  /// Any number of signed 32-bit integers.
  mutating func visit(_ name: String, _ value: inout [Int]) throws(QMError)

  /// A float32 that is not NaN.
  mutating func visit(_ name: String, _ value: inout Float) throws(QMError)

  /// A case of an enum. Its raw value is its number in files.
  mutating func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) throws(QMError)

  /// An optional function with its parameters.
  mutating func visit(_ name: String, _ value: inout UnaryFunction?) throws(QMError)

  /// A chain of functions with their parameters.
  mutating func visit(_ name: String, _ value: inout [UnaryFunction]) throws(QMError)

  /// How an operation stores its result. Scale and zero point obey
  /// ``QuantizationParameters/check()``.
  mutating func visit(_ name: String, _ value: inout OutputEncoding) throws(QMError)

  /// The nodes of a loop's body, each with an operation and its attributes.
  mutating func visit(_ name: String, _ value: inout [LoopNode]) throws(QMError)

  /// Whether the optional attribute `name` is present. If it is, its value is visited next.
  mutating func visitPresence(of name: String, _ isPresent: inout Bool) throws(QMError)

  /// A `malformed` error that includes the visitor's position, if it has one.
  func malformed(_ message: String) -> QMError
}

extension AttributeVisitor {
  mutating func visit(_ name: String, _ value: inout Int32) throws(QMError) {
    var integer = Int(value)
    try visit(name, &integer)
    value = Int32(truncatingIfNeeded: integer)
  }

  mutating func visit(_ name: String, _ value: inout UnaryFunction) throws(QMError) {
    var function: UnaryFunction? = value
    try visit(name, &function)
    guard let function else {
      throw malformed("a function is missing").within(.attribute(name))
    }
    value = function
  }

  mutating func visit(_ name: String, _ value: inout Int?) throws(QMError) {
    guard try isPresent(name, &value, placeholder: 0) else { return }
    try visit(name, &value!)
  }

  mutating func visit(_ name: String, _ value: inout [Int]?) throws(QMError) {
    guard try isPresent(name, &value, placeholder: []) else { return }
    try visit(name, &value!)
  }

  mutating func visit(_ name: String, _ value: inout Float?) throws(QMError) {
    guard try isPresent(name, &value, placeholder: 0) else { return }
    try visit(name, &value!)
  }

  /// Whether `value` is present. A value that the visitor makes present starts as `placeholder`.
  private mutating func isPresent<Value>(
    _ name: String, _ value: inout Value?, placeholder: Value
  ) throws(QMError) -> Bool {
    var isPresent = value != nil
    try visitPresence(of: name, &isPresent)
    value = isPresent ? value ?? placeholder : nil
    return isPresent
  }
}

extension OperationProtocol {
  /// Checks the attributes on their own, without operands.
  /// - Throws: `malformed` if an integer does not fit 32 bits, a float is NaN, or a scale or zero
  ///   point is invalid for its codes.
  public func checkAttributes() throws(QMError) {
    var operation = self
    var check = AttributeCheck()
    try operation.visitAttributes(&check)
  }

  /// The attributes for people, in one line: `axis 1, output int8 …`. Absent ones are left out.
  public var attributeText: String {
    var operation = self
    var text = AttributeText()
    // AttributeText itself throws nothing; if the operation throws, the text ends there.
    try? operation.visitAttributes(&text)
    return text.parts.joined(separator: ", ")
  }
}

private struct AttributeCheck: AttributeVisitor {
  func visit(_ name: String, _ value: inout Bool) {}

  func visit(_ name: String, _ value: inout Int) throws(QMError) {
    guard Int32(exactly: value) != nil else {
      throw malformed("\(value) does not fit 32 bits").within(.attribute(name))
    }
  }

  func visit(_ name: String, _ value: inout [Int]) throws(QMError) {
    for var number in value { try visit(name, &number) }
  }

  func visit(_ name: String, _ value: inout Float) throws(QMError) {
    guard !value.isNaN else { throw malformed("not a number").within(.attribute(name)) }
  }

  func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) {}

  func visit(_ name: String, _ value: inout UnaryFunction?) throws(QMError) {
    for var parameter in value?.parameters ?? [] { try visit(name, &parameter) }
  }

  func visit(_ name: String, _ value: inout [UnaryFunction]) throws(QMError) {
    for function in value {
      for var parameter in function.parameters { try visit(name, &parameter) }
    }
  }

  func visit(_ name: String, _ value: inout OutputEncoding) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in try value.check() }
  }

  func visit(_ name: String, _ value: inout [LoopNode]) throws(QMError) {
    for node in value {
      try within(.attribute(name)) { () throws(QMError) in
        try node.operation.body.checkAttributes()
      }
    }
  }

  func visitPresence(of name: String, _ isPresent: inout Bool) {}

  func malformed(_ message: String) -> QMError { .malformed(message) }
}

private struct AttributeText: AttributeVisitor {
  var parts: [String] = []

  private mutating func add(_ name: String, _ value: some Any) { parts.append("\(name) \(value)") }

  mutating func visit(_ name: String, _ value: inout Bool) { add(name, value) }
  mutating func visit(_ name: String, _ value: inout Int) { add(name, value) }
  mutating func visit(_ name: String, _ value: inout [Int]) { add(name, value) }
  mutating func visit(_ name: String, _ value: inout Float) { add(name, value) }

  mutating func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) {
    add(name, value)
  }

  mutating func visit(_ name: String, _ value: inout UnaryFunction?) {
    if let function = value { add(name, function) }
  }

  mutating func visit(_ name: String, _ value: inout [UnaryFunction]) { add(name, value) }

  mutating func visit(_ name: String, _ value: inout OutputEncoding) {
    switch value {
    case .float32: add(name, ElementType.float32)
    case .quantized(let elementType, let scale, let zeroPoint):
      add(name, "\(elementType), scale \(scale), zero point \(zeroPoint)")
    }
  }

  mutating func visit(_ name: String, _ value: inout [LoopNode]) {
    add(name, value.map(\.operation.name))
  }

  func visitPresence(of name: String, _ isPresent: inout Bool) {}

  func malformed(_ message: String) -> QMError { .malformed(message) }
}

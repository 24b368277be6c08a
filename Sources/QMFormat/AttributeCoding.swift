import QMOperations
import QMTensor

/// Writes the attributes of an operation. Each must be within the range of its kind.
extension ByteWriter: AttributeVisitor {
  mutating func visit(_ name: String, _ value: inout Bool) { flag(value) }

  mutating func visit(_ name: String, _ value: inout Int) { signed(value) }

  mutating func visit(_ name: String, _ value: inout [Int]) {
    varint(value.count)
    for number in value { signed(number) }
  }

  mutating func visit(_ name: String, _ value: inout Float) { float(value) }

  mutating func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) {
    code(value)
  }

  mutating func visit(_ name: String, _ value: inout UnaryFunction?) { function(value) }

  mutating func visit(_ name: String, _ value: inout [UnaryFunction]) {
    varint(value.count)
    for element in value { function(element) }
  }

  mutating func visit(_ name: String, _ value: inout OutputEncoding) {
    switch value {
    case .float32: byte(0)
    case .quantized(let elementType, let scale, let zeroPoint):
      code(elementType)
      float(scale)
      signed(Int(zeroPoint))
      lastParameters = value.quantization
    }
  }

  mutating func visit(_ name: String, _ value: inout [LoopNode]) throws(QMError) {
    varint(value.count)
    for node in value {
      code(node.operation.opcode)
      var body = node.operation.body
      try body.visitAttributes(&self)
      varint(node.inputs.count)
      for input in node.inputs { varint(input.map { $0 + 1 } ?? 0) }
      varint(node.outputCount)
    }
  }

  mutating func visitPresence(of name: String, _ isPresent: inout Bool) { flag(isPresent) }

  func malformed(_ message: String) -> QMError { .malformed(message) }

  /// Writes 0 for no function, otherwise the function's code plus 1 and its parameters.
  private mutating func function(_ function: UnaryFunction?) {
    guard let function else { return byte(0) }
    byte(function.code + 1)
    let parameters = function.parameters
    byte(UInt8(parameters.count))
    for parameter in parameters { float(parameter) }
  }
}

/// Reads the attributes of an operation and checks the range of each. Scales and zero points are
/// checked later, by ``OperationProtocol/checkAttributes()``.
extension ByteReader: AttributeVisitor {
  mutating func visit(_ name: String, _ value: inout Bool) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in value = try flag() }
  }

  mutating func visit(_ name: String, _ value: inout Int) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in value = try signed() }
  }

  mutating func visit(_ name: String, _ value: inout [Int]) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in
      let count = try count(of: "numbers", limit: .max)
      value = []
      value.reserveCapacity(count)
      for _ in 0..<count { value.append(try signed()) }
    }
  }

  mutating func visit(_ name: String, _ value: inout Float) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in value = try float() }
  }

  mutating func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in
      value = try code("number", as: Code.self)
    }
  }

  mutating func visit(_ name: String, _ value: inout UnaryFunction?) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in value = try function() }
  }

  mutating func visit(_ name: String, _ value: inout [UnaryFunction]) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in
      value = []
      for _ in 0..<(try count(of: "functions", limit: .max)) {
        guard let function = try function() else { throw malformed("a function is missing") }
        value.append(function)
      }
    }
  }

  mutating func visit(_ name: String, _ value: inout OutputEncoding) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in
      let code = try byte()
      guard code > 0 else {
        value = .float32
        return
      }
      guard let elementType = ElementType(rawValue: code) else {
        throw malformed("element type \(code) is unknown")
      }
      value = .quantized(elementType, scale: try float(), zeroPoint: try zeroPoint())
      lastParameters = value.quantization
    }
  }

  mutating func visit(_ name: String, _ value: inout [LoopNode]) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in
      try enterLoop()
      value = []
      for _ in 0..<(try count(of: "nodes", limit: .max, byteCount: 3)) {
        let opcode = try code("operation", as: Opcode.self)
        let operation = try Operation(opcode, visitedBy: &self)
        var inputs: [Int?] = []
        for _ in 0..<(try count(of: "operands", limit: .max)) {
          let reference = try varint()
          inputs.append(reference == 0 ? nil : reference - 1)
        }
        // Each result takes memory: a node of many needs as many bytes elsewhere.
        let outputCount = try varint()
        guard (1...1 << 16).contains(outputCount) else {
          throw malformed("a node of \(outputCount) outputs, expected 1 to 65536")
        }
        value.append(LoopNode(operation, inputs: inputs, outputCount: outputCount))
      }
      leaveLoop()
    }
  }

  mutating func visitPresence(of name: String, _ isPresent: inout Bool) throws(QMError) {
    try within(.attribute(name)) { () throws(QMError) in isPresent = try flag() }
  }

  /// Reads a function; nil if there is none.
  private mutating func function() throws(QMError) -> UnaryFunction? {
    let code = try byte()
    guard code > 0 else { return nil }
    let count = try byte()
    var parameters: [Float] = []
    for _ in 0..<count { parameters.append(try float()) }
    guard let function = UnaryFunction(code: code - 1, parameters: parameters) else {
      throw malformed("function \(code - 1) with \(count) parameters is unknown")
    }
    return function
  }
}

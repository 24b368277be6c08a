import QMFormat
import QMOperations
import QMTensor
import Testing

struct AttributeTests {
  /// `keepsAxes` for the attribute `keeps axes`.
  private static func property(_ name: String) -> String {
    let words = name.split(separator: " ")
    return words[0] + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
  }

  /// Names of the stored properties, those of a struct in its place.
  private static func properties(_ value: Any) -> [String] {
    Mirror(reflecting: value).children.flatMap { child in
      child.value is Epilogue
        ? properties(child.value) : [child.label!]
    }
  }

  /// A property that is not visited would be lost in a file.
  @Test(arguments: Opcode.allCases) func `Every stored property is visited once`(opcode: Opcode)
    throws
  {
    var names = NameList()
    let operation = try Operation(opcode, visitedBy: &names)
    let properties = Self.properties(operation.body)
    let visited = names.names.map(Self.property).filter(properties.contains)
    // 1 along every axis of a convolution that is not transposed; functions of a table are metadata.
    let elsewhere: String? =
      switch opcode {
      case .convolution: "spacing"
      case .table: "functions"
      default: nil
      }
    #expect(visited == properties.filter { $0 != elsewhere })
  }

  @Test func `An error names the operation, the attribute and the byte`() throws {
    let value = ValueType(.float32, [2, 3])
    let program = Program(
      values: [Program.Value(value, name: "x"), Program.Value(value)], constants: [],
      nodes: [
        Program.Node(
          .layerNormalization(LayerNormalization(axis: 1, epsilon: .nan)), inputs: [0],
          outputs: [1])
      ], inputs: [0], outputs: [Program.Output(name: "y", value: 1)])
    let bytes = try program.encodedWithoutValidation()
    let error = #expect(throws: QMError.malformed("")) { try QMFile(buffer(bytes)) }
    let text = try #require(error).description
    #expect(text.contains("layerNormalization node: attribute 'epsilon': byte 1"), "\(text)")
    let validation = #expect(throws: QMError.malformed("")) { try program.validate() }
    #expect(try #require(validation).description.contains("attribute 'epsilon': not a number"))
  }

  @Test func `Attributes are described in one line`() {
    let convolution = Convolution(
      order: .channelsLast, strides: [1, 2], dilations: [1, 1],
      padding: .explicit(before: [0, 1], after: [0, 1]), groups: 3,
      epilogue: Epilogue(
        function: .clip(minimum: 0, maximum: 6),
        output: .quantized(.int8, scale: 0.5, zeroPoint: -3)))
    #expect(
      convolution.attributeText
        == "order channelsLast, strides [1, 2], dilations [1, 1], padding explicit, "
        + "padding before [0, 1], padding after [0, 1], groups 3, "
        + "function clip(minimum: 0.0, maximum: 6.0), output int8, scale 0.5, zero point -3")
    #expect(Squeeze(axes: nil).attributeText == "" && Select().attributeText == "")
  }
}

private struct NameList: AttributeVisitor {
  var names: [String] = []

  mutating func visit(_ name: String, _ value: inout Bool) { names.append(name) }
  mutating func visit(_ name: String, _ value: inout Int) { names.append(name) }
  mutating func visit(_ name: String, _ value: inout [Int]) { names.append(name) }
  mutating func visit(_ name: String, _ value: inout Float) { names.append(name) }
  mutating func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) {
    names.append(name)
  }
  mutating func visit(_ name: String, _ value: inout UnaryFunction?) { names.append(name) }
  mutating func visit(_ name: String, _ value: inout [UnaryFunction]) { names.append(name) }
  mutating func visit(_ name: String, _ value: inout OutputEncoding) { names.append(name) }
  mutating func visit(_ name: String, _ value: inout [LoopNode]) { names.append(name) }
  mutating func visitPresence(of name: String, _ isPresent: inout Bool) { isPresent = true }
  func malformed(_ message: String) -> QMError { .malformed(message) }
}

import QMGraph
import QMOperations
import QMTensor
import Testing

@Suite struct GraphConstructionTests {
  private func makeConstruction() -> GraphConstruction {
    GraphConstruction(valueByteLimit: 1 << 30)
  }

  @Test func aNodeOfConstantsIsComputed() throws {
    var construction = makeConstruction()
    let two = construction.addGivenConstant(name: "two", try Tensor([], [Float(2)]))
    let row = construction.addGivenConstant(name: "row", try Tensor([2], [Float(3), 4]))
    let places = try construction.append(
      .binary(Binary(.multiply)), name: "product", [two, row], outputNames: ["product"])
    let product = GraphConstruction.Value(place: places[0], type: .float32)
    #expect(construction.constant(of: product)?.elements(as: Float.self) == [6, 8])
    #expect(construction.graph.values.isEmpty)
  }

  @Test func aConstantEntersTheGraphWithItsFirstReader() throws {
    var construction = makeConstruction()
    let x = try construction.addInput(name: "x", ValueType(.float32, [.free("n")]))
    let one = construction.addGivenConstant(name: "one", try Tensor([], [Float(1)]))
    _ = construction.addGivenConstant(name: "unread", try Tensor([], [Float(1)]))
    for name in ["first", "second"] {
      _ = try construction.append(
        .binary(Binary(.add)), name: name, [x, one], outputNames: [name])
    }
    #expect(construction.graph.values.map(\.name) == ["x", "one", "first", "second"])
  }

  @Test func aShapeIsFollowedThroughFreeAxes() throws {
    var construction = makeConstruction()
    let x = try construction.addInput(name: "x", ValueType(.float32, [.free("n"), 3, 4]))
    func append(
      _ operation: Operation, _ inputs: [GraphConstruction.Value?], _ type: ElementType,
      _ name: String
    ) throws -> GraphConstruction.Value {
      let places = try construction.append(operation, name: name, inputs, outputNames: [name])
      return GraphConstruction.Value(place: places[0], type: type)
    }
    let shape = try append(.shape(ShapeOperation(start: 0, end: 1)), [x], .int64, "shape")
    #expect(construction.partial(of: shape)?.elements == [.axis("n")])
    let rest = construction.addConstant(name: "rest", try Tensor([1], [Int64(12)]))
    let extents = try append(
      .concatenate(Concatenate(axis: 0)), [shape, rest], .int64, "extents")
    let flat = try append(.reshape(Reshape()), [x, extents], .float32, "flat")
    #expect(construction.type(of: flat).shape == [.free("n"), 12])
    // The shape of the Reshape is a constant that copies the free axis.
    let node = try #require(construction.graph.nodes.last)
    let constant = try #require(node.input(1).flatMap { construction.graph[$0].constant })
    #expect(constant.elements(as: Int64.self) == [0, 12])
  }

  @Test func otherFloatTypesAreComputedInFloat32() throws {
    var construction = makeConstruction()
    let x = try construction.addInput(name: "x", ValueType(.float16, [2]))
    let real = try construction.inFloat32(x, name: "x/float32")
    #expect(real.type == .float16)
    #expect(construction.type(of: real).elementType == .float32)
    let places = try construction.append(
      .unary(Unary(.relu)), name: "relu", [real], outputNames: ["relu"])
    try construction.addOutput(
      name: "y", GraphConstruction.Value(place: places[0], type: .float16))
    let graph = construction.graph
    #expect(graph[graph.outputs[0].value].type.elementType == .float16)
    #expect(graph.nodes.map(\.operation.name) == ["Cast", "Unary", "Cast"])
  }

  @Test func aValueBeyondTheLimitIsRefused() throws {
    var construction = GraphConstruction(valueByteLimit: 100)
    #expect(throws: QMError.unsupported("")) {
      try construction.addInput(name: "x", ValueType(.float32, [26]))
    }
    _ = try construction.addInput(name: "y", ValueType(.float32, [25]))
  }
}

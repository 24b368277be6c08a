import QMOperations
import QMTensor
import Testing

@Suite struct ConstantFolderTests {
  private func operand(_ tensor: Tensor) -> Operand { Operand(tensor.type, constant: tensor) }

  private func expand(to extents: [Int64]) throws -> [Operand?] {
    [operand(try Tensor([1], [Float(3)])), operand(try Tensor([extents.count], extents))]
  }

  @Test func foldsWhatIsKnown() throws {
    var folder = ConstantFolder(for: .graph, byteLimit: 1 << 20)
    let results = try folder.results(of: .expand(Expand()), expand(to: [2, 2]))
    #expect(results?[0].elements(as: Float.self) == [3, 3, 3, 3])
    let free = Operand(ValueType(.float32, [1]))
    #expect(try folder.results(of: .unary(Unary(.relu)), [free]) == nil)
  }

  @Test func theShapeOfAValueIsKnownBeforeItsElements() throws {
    var folder = ConstantFolder(for: .graph, byteLimit: 0)
    let known = Operand(ValueType(.float32, [2, 3]))
    let results = try folder.results(of: .shape(ShapeOperation()), [known])
    #expect(results?[0].elements(as: Int64.self) == [2, 3])
    let free = Operand(ValueType(.float32, [.free("n"), 3]))
    #expect(try folder.results(of: .shape(ShapeOperation()), [free]) == nil)
    let part = try folder.results(of: .shape(ShapeOperation(start: 1)), [free])
    #expect(part?[0].elements(as: Int64.self) == [3])
  }

  @Test func oneResultForAFileIsLimited() throws {
    // 16 MiB and a row more, from a few bytes.
    let large = try expand(to: [(1 << 20) + 8, 4])
    var graph = ConstantFolder(for: .graph, byteLimit: .max)
    #expect(try graph.results(of: .expand(Expand()), large) == nil)
    #expect(try graph.results(of: .expand(Expand()), expand(to: [1 << 10, 4])) != nil)
    var memory = ConstantFolder(for: .memory, byteLimit: .max)
    #expect(try memory.results(of: .expand(Expand()), large) != nil)
  }

  @Test func allResultsTogetherAreLimited() throws {
    for destination in [ConstantFolder.Destination.graph, .memory] {
      var folder = ConstantFolder(for: destination, byteLimit: 40)
      #expect(try folder.results(of: .expand(Expand()), expand(to: [6])) != nil)
      #expect(try folder.results(of: .expand(Expand()), expand(to: [6])) == nil)
      folder.addGivenConstant(try Tensor([1], [Float(3)]))
      #expect(try folder.results(of: .expand(Expand()), expand(to: [6])) != nil)
    }
  }

  @Test func codesStayCodesInAGraph() throws {
    let codes = try Tensor([2], [Int8(1), 2])
    let type = ValueType(.int8, [2], .weights(bits: .eight, granularity: .perTensor))
    let operands = [
      Operand(type, constant: codes), operand(try Tensor([1], [Float(0.5)])),
    ]
    var graph = ConstantFolder(for: .graph, byteLimit: 1 << 20)
    #expect(try graph.results(of: .dequantize(Dequantize()), operands) == nil)
    var memory = ConstantFolder(for: .memory, byteLimit: 1 << 20)
    let results = try memory.results(of: .dequantize(Dequantize()), operands)
    #expect(results?[0].elements(as: Float.self) == [0.5, 1])
  }
}

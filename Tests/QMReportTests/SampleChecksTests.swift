import QMGraph
import QMOperations
import QMReport
import QMTensor
import QMTestSupport
import Testing

@Suite struct SampleChecksTests {
  /// `y = x · wᵀ` with weights of about 1 over the root of the depth, as trained networks have them.
  private func graph(preparing: Bool = false) throws -> Graph {
    var generator = SeededGenerator(seed: 11)
    var graph = Graph()
    var value = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 64]))
    if preparing {
      let scale = graph.addConstant(name: "scale", try Tensor([1], [Float(1) / 255]))
      value = try graph.append(.binary(Binary(.multiply)), name: "prepare", [value, scale])[0]
    }
    let weights = graph.addConstant(
      name: "w", try generator.tensor([8, 64], in: -0.25...0.25))
    let product = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product",
      [value, weights])
    try graph.addOutput(name: "y", product[0])
    return graph
  }

  /// Twelve samples; `change` makes others of them.
  private func remarks(
    _ graph: Graph, count: Int = 12, scale: Float = 1,
    _ change: (_ index: Int, _ elements: inout [Float]) -> Void = { _, _ in }
  ) throws -> [SampleChecks.Remark] {
    var generator = SeededGenerator(seed: 12)
    var checks = SampleChecks(graph)
    for index in 0..<count {
      var elements = try generator.tensor([64], in: 0...1).elements(as: Float.self)
      elements = elements.map { ($0 * scale).rounded(.down) + (scale > 1 ? 0 : $0) }
      change(index, &elements)
      checks.examine(["x": try Tensor([1, 64], elements)], sample: "s\(index)")
    }
    return checks.remarks
  }

  @Test func goodSamplesNeedNoRemark() throws {
    #expect(try remarks(graph()).isEmpty)
  }

  @Test func fewSamplesAreNamed() throws {
    let remarks = try remarks(graph(), count: 7)
    #expect(remarks.count == 1)
    #expect(remarks.first?.text.hasPrefix("7 samples are few") == true)
    #expect(try self.remarks(graph(), count: 8).isEmpty)
  }

  @Test func aConstantSampleIsNamed() throws {
    let remarks = try remarks(graph()) { index, elements in
      if index == 5 { elements = elements.map { _ in 0.5 } }
    }
    #expect(remarks.map(\.sample) == ["s5"])
    #expect(remarks.map(\.input) == ["x"])
  }

  @Test func anInputThatIsAlwaysConstantTakesOneLine() throws {
    let remarks = try remarks(graph()) { index, elements in elements = elements.map { _ in 0 } }
    #expect(remarks.count == 1)
    #expect(remarks.first?.sample == nil)
  }

  @Test func aSampleFarFromTheOthersIsNamed() throws {
    let remarks = try remarks(graph()) { index, elements in
      if index == 7 { elements[3] = -100 }
    }
    #expect(remarks.map(\.sample) == ["s7"])
    #expect(remarks.first?.text.contains("-100.0") == true)
  }

  @Test func bytesForNormalisedInputAreNamed() throws {
    let remarks = try remarks(graph(), scale: 256)
    #expect(remarks.count == 1)
    #expect(remarks.first?.text.contains("normalised") == true)
    // A network that prepares its input knows what comes.
    #expect(try self.remarks(graph(preparing: true), scale: 256).isEmpty)
  }
}

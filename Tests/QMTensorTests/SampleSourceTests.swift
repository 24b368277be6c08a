import QMTensor
import QMTestSupport
import Testing

@Suite struct SampleSourceTests {
  private func samples(_ count: Int) throws -> TensorSamples {
    TensorSamples(try (0..<count).map { ["x": try Tensor([1], [Float($0)])] })
  }

  @Test(arguments: [
    (10, 4, [0, 2, 5, 7]), (10, 1, [0]), (3, 8, [0, 1, 2]), (0, 4, []), (5, 0, []),
  ])
  func aLimitTakesSamplesFromAllOver(count: Int, limit: Int, indices: [Int]) throws {
    let subset = try samples(count).evenly(limit: limit)
    #expect(subset.indices == indices)
    #expect(subset.count == indices.count)
    for (index, place) in indices.enumerated() {
      #expect(subset.name(of: index) == "\(place)")
      #expect(try subset.inputs(of: index)["x"]?.elements(as: Float.self) == [Float(place)])
      #expect(try subset.expectedOutputs(of: index).isEmpty)
    }
  }

  @Test func anInputTakesWhatFits() throws {
    let input = SampleInput("x", ValueType(.float32, [.free("n"), 2]))
    let tensor = try input.tensor(from: Tensor([1, 2], [3, 4] as [Int64]))
    #expect(tensor.elements(as: Float.self) == [3, 4])
    for bad in [
      try Tensor([1, 3], [1, 2, 3] as [Float]), try Tensor(zeros: .float32, [0, 3]),
      try Tensor([1, 2], [1, .infinity] as [Float]), try Tensor([1, 2], [1, 1e300] as [Double]),
    ] {
      #expect(throws: QMError.invalidInput("")) { try input.tensor(from: bad) }
    }
    // The cache of a decoder's first step has no elements.
    #expect(try input.tensor(from: Tensor(zeros: .float32, [0, 2])).shape == [0, 2])
    // Without a type only numbers are checked.
    #expect(
      try SampleInput("x").tensor(from: Tensor([3], [1, 2, 3] as [Int8])).elementType == .int8)
  }
}

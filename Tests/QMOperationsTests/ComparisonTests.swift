import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct ComparisonTests {
  @Test func codesCompareAsTheirNumbers() throws {
    let codes = try Given([3], [Int8(0), 2, 4], .fixed(scale: 0.5, zeroPoint: 0))
    let numbers = try Given([1], [Float(1)])
    #expect(try Compare(.less).loops([codes, numbers])[0].elements() == [true, false, false])
    #expect(try Compare(.equal).loops([codes, numbers])[0].elements() == [false, true, false])
  }

  @Test func nothingEqualsNotANumber() throws {
    let numbers = try Given([2], [Float.nan, 0])
    let zero = try Given([], [-Float(0)])
    for function in Compare.Function.allCases {
      let output: [Bool] = try Compare(function).loops([numbers, zero])[0].elements()
      #expect(output[0] == false)
    }
    #expect(try Compare(.equal).loops([numbers, zero])[0].elements() == [false, true])
    #expect(try IsNaNOrInf(.notANumber).loops([numbers])[0].elements() == [true, false])
  }

  @Test func mixedTypesAreRefused() throws {
    let (bools, bytes) = (try Given([1], [true]), try Given([1], [Int8(1)]))
    #expect(throws: QMError.malformed("")) { try Compare(.less).types(for: [bools, bools]) }
    #expect(throws: QMError.malformed("")) { try Compare(.equal).types(for: [bools, bytes]) }
    #expect(throws: QMError.malformed("")) { try Logic(.and).types(for: [bools, bytes]) }
  }

  @Test func selectBroadcastsAllThree() throws {
    let condition = try Given([2, 1], [true, false])
    let left = try Given([1, 3], [Int16(1), 2, 3])
    let right = try Given([], [Int16(9)])
    let output = try Select().run([condition, left, right])[0]
    #expect(output.shape == [2, 3])
    #expect(output.elements(as: Int16.self) == [1, 2, 3, 9, 9, 9])
    var generator = SeededGenerator(seed: 71)
    for elementType: ElementType in [.int8, .int16, .float32, .int64] {
      for count in [1, 2, 15, 17, 67] {
        _ = try Select().run([
          Given([3, count], (0..<3 * count).map { $0 % 3 == 0 }),
          Given(generator.bytes(elementType, [2, 3, count])),
          Given(generator.bytes(elementType, [3, 1])),
        ])
      }
    }
  }

  @Test func comparisonKernelsEqualTheLoops() throws {
    var generator = SeededGenerator(seed: 72)
    let types: [ElementType] = [
      .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64, .float32,
    ]
    for count in [1, 2, 15, 17, 67] {
      let shapes = [
        ([3, count], [3, count]), ([3, count], [count]), ([1], [3, count]), ([3, 1], [3, count]),
        ([count], [2, 3, count]), ([2, 1, count], [1, 3, 1]),
      ]
      for (left, right) in shapes {
        for type in types {
          let function = Compare.Function.allCases.randomElement(using: &generator)!
          _ = try Compare(function).run([
            Given(generator.bytes(type, left)), Given(generator.bytes(type, right)),
          ])
        }
      }
    }
  }

  @Test func extremesBreakTiesAsAsked() throws {
    let data = try Given([1, 4], [Float(1), 3, 3, .nan])
    func place(_ operation: ArgMinMax) throws -> [Int64] {
      try operation.loops([data])[0].elements()
    }
    #expect(try place(ArgMinMax(.minimum, axis: 1, keepsAxis: true)) == [0])
    #expect(try place(ArgMinMax(.maximum, axis: 1, keepsAxis: false)) == [3])
    let ties = try Given([3], [Int32(5), 5, 1])
    let last = ArgMinMax(.maximum, axis: 0, keepsAxis: true, takesLast: true)
    #expect(try last.loops([ties])[0].elements() == [Int64(1)])
  }

  @Test func topKIsStable() throws {
    let data = try Given([4], [Float(2), 7, 2, 7])
    let outputs = try TopK(axis: 0, takesLargest: true).loops([data, Given.integers([3])])
    #expect(outputs[0].elements(as: Float.self) == [7, 7, 2])
    #expect(outputs[1].elements(as: Int64.self) == [1, 3, 0])
    #expect(throws: QMError.malformed("")) {
      try TopK(axis: 0, takesLargest: true).types(for: [data, Given.integers([5])])
    }
  }

  @Test func progressionsEnd() throws {
    func count(_ numbers: [Float]) throws -> Int {
      try RangeOperation().loops(numbers.map { try Given([], [$0]) })[0].elementCount
    }
    #expect(try count([0, 1, 0.25]) == 4 && count([0, 1.1, 0.25]) == 5 && count([1, 0, 1]) == 0)
    for numbers: [Float] in [[0, 1, 0], [0, .infinity, 1], [.nan, 1, 1], [0, -.infinity, 1]] {
      #expect(throws: QMError.malformed("")) { try count(numbers) }
    }
    let down = try RangeOperation().loops([5, 0, -2].map { try Given([], [Int64($0)]) })[0]
    #expect(down.elements(as: Int64.self) == [5, 3, 1])
    #expect(throws: QMError.malformed("")) {
      try RangeOperation().loops([Int64.min, .max, 1].map { try Given([], [$0]) })
    }
  }

  @Test func scattersRefuseIndicesOutside() throws {
    let data = try Given([3], [Float(0), 0, 0])
    let updates = try Given([2], [Float(1), 2])
    let scatter = ScatterElements(axis: 0, .add)
    let twice = try scatter.loops([data, Given.integers([1, -2]), updates])[0]
    #expect(twice.elements(as: Float.self) == [0, 3, 0])
    #expect(throws: QMError.invalidInput("")) {
      try referenceOutputs(scatter, [data, Given.integers([1, 3]), updates])
    }
    #expect(throws: QMError.invalidInput("")) {
      try referenceOutputs(GatherElements(axis: 0), [data, Given.integers([-4])])
    }
  }

  @Test func blocksGoBothWays() throws {
    var generator = SeededGenerator(seed: 72)
    let data = Given(try generator.bytes(.int8, [2, 8, 3, 5]))
    let wide = try DepthToSpace(block: 2, channelsComeFirst: false, order: .channelsFirst)
      .run([data])[0]
    #expect(wide.shape == [2, 2, 6, 10])
    let deep = try SpaceToDepth(block: 2, channelsComeFirst: false, order: .channelsFirst)
      .run([Given(wide)])[0]
    #expect(deep.isIdentical(to: data.tensor))
  }
}

extension OperationProtocol {
  /// The outputs of an operation that has its reference loops only.
  fileprivate func loops(_ inputs: [TestOperand?]) throws -> [Tensor] {
    try referenceOutputs(self, inputs)
  }
}

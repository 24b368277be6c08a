import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct ReductionTests {
  private func reduced(
    _ kind: Reduction.Kind, _ data: Given, _ axes: [Int], keepsAxes: Bool = false,
    output: OutputEncoding = .float32
  ) throws -> Tensor {
    try Reduction(kind, axes: axes, keepsAxes: keepsAxes, output: output).run([data])[0]
  }

  private func row(_ elements: [Float]) throws -> Given { try Given([elements.count], elements) }

  private static let kinds: [(Reduction.Kind, Float)] = [
    (.mean, -0.5), (.sum, -2), (.maximum, 4), (.minimum, -6), (.product, 96),
    (.sumOfMagnitudes, 14), (.norm, Float(60).squareRoot()), (.sumOfSquares, 60),
  ]

  @Test(arguments: ReductionTests.kinds)
  func kindsAreWhatTheirNamesSay(kind: Reduction.Kind, expected: Float) throws {
    let value: [Float] = try reduced(kind, row([2, -6, 4, -2]), [0]).elements()
    #expect(value == [expected])
  }

  @Test func logarithmsNeitherOverflowNorLoseInfinities() throws {
    func logSumExp(_ elements: [Float]) throws -> Float {
      try reduced(.logarithmOfSumOfExponentials, row(elements), [0]).elements(as: Float.self)[0]
    }
    #expect(try logSumExp([1000, 1000]) == 1000 + 0.6931472)
    #expect(try logSumExp([-.infinity, -.infinity]) == -.infinity)
    #expect(try logSumExp([-.infinity, 3]) == 3)
    #expect(try logSumExp([.infinity, 3]) == .infinity)
    #expect(try logSumExp([]) == -.infinity)
    let sum: [Float] = try reduced(.logarithmOfSum, row([1, 3]), [0]).elements()
    #expect(sum == [1.3862944])
  }

  /// The tree, written out: lanes 0 and 1 take two elements each, then all lanes join in pairs.
  @Test func sumsFollowTheTree() throws {
    let elements = [Float(1e7)] + Array(repeating: 0.6, count: 17)
    var lanes = Array(elements.prefix(16))
    lanes[0] += elements[16]
    lanes[1] += elements[17]
    for half in [8, 4, 2, 1] { for lane in 0..<half { lanes[lane] += lanes[lane + half] } }
    let sum: [Float] = try reduced(.sum, row(elements), [0]).elements()
    #expect(sum == [lanes[0]])
    #expect(sum != [elements.reduce(0, +)], "the elements do not tell the orders apart")
  }

  @Test func noElementsGiveTheNeutralElement() throws {
    func empty(_ kind: Reduction.Kind) throws -> Float {
      try reduced(kind, Given([2, 0], [Float]()), [1]).elements(as: Float.self)[1]
    }
    #expect(try empty(.sum) == 0)
    #expect(try empty(.product) == 1)
    #expect(try empty(.maximum) == -.infinity)
    #expect(try empty(.minimum) == .infinity)
    #expect(try empty(.mean).bitPattern == 0x7FC0_0000)
    #expect(try reduced(.sum, Given([0, 2], [Float]()), [1]).shape == [0])
  }

  @Test func maximumPassesOverNaNAndSumsCarryIt() throws {
    let data = try Given([1, 3], [Float.nan, 2, -Float.nan])
    let maximum: [Float] = try reduced(.maximum, data, [1]).elements()
    #expect(maximum == [2])
    #expect(try reduced(.sum, data, [1]).elements(as: Float.self)[0].bitPattern == 0x7FC0_0000)
    let infinities = try row([.infinity, -.infinity])
    #expect(
      try reduced(.sum, infinities, [0]).elements(as: Float.self)[0].bitPattern == 0x7FC0_0000)
  }

  @Test func extentsFollowTheAxes() throws {
    let data = Operand(ValueType(.float32, [.free("N"), 3, 4, .free("C")]))
    func shape(_ axes: [Int], keeps: Bool) throws -> Shape {
      try Reduction(.mean, axes: axes, keepsAxes: keeps).outputTypes(for: [data])[0].shape
    }
    #expect(try shape([1, 2], keeps: true) == [.free("N"), 1, 1, .free("C")])
    #expect(try shape([1, 2], keeps: false) == [.free("N"), .free("C")])
    #expect(try shape([], keeps: false) == data.type.shape)
    for axes in [[4], [-1], [2, 1], [1, 1]] {
      #expect(throws: QMError.malformed("")) { try shape(axes, keeps: true) }
    }
    #expect(throws: QMError.unsupported("")) {
      try Reduction(.mean, axes: [], keepsAxes: true).outputTypes(for: [
        Operand(ValueType(.bool, [1]))
      ])
    }
  }

  @Test(arguments: Reduction.Kind.allCases) func rowsOfEveryLengthAgree(kind: Reduction.Kind) throws
  {
    var generator = SeededGenerator(seed: 11)
    for count in 1...67 {
      _ = try reduced(kind, Given(generator.numbers([3, count])), [1])
    }
  }

  @Test(arguments: Reduction.Kind.allCases)
  func columnsOfEveryWidthAgree(kind: Reduction.Kind) throws {
    var generator = SeededGenerator(seed: 12)
    for width in [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 67, 130] {
      for count in [1, 5, 16, 17, 35] {
        _ = try reduced(kind, Given(generator.numbers([2, count, width])), [1])
      }
    }
  }

  @Test func everySetOfAxesAgrees() throws {
    var generator = SeededGenerator(seed: 13)
    let float = Given(try generator.numbers([3, 4, 5, 6]))
    for set in 0..<16 {
      let axes = (0..<4).filter { set >> $0 & 1 == 1 }
      for output in OutputEncoding.samples {
        let kept = try reduced(.sumOfSquares, float, axes, keepsAxes: true, output: output)
        let dropped = try reduced(.sumOfSquares, float, axes, output: output)
        #expect(kept.bytes.elementsEqual(dropped.bytes))
      }
      for (elementType, quantization) in codeTypes {
        let codes = Given(try generator.bytes(elementType, [3, 4, 5, 6]), quantization)
        for kind in Reduction.Kind.allCases where kind != .product {
          _ = try reduced(kind, codes, axes, output: .quantized(.int8, scale: 0.1, zeroPoint: 1))
        }
      }
    }
  }

  @Test func channelsLastAndRowsHaveTheSameBits() throws {
    var generator = SeededGenerator(seed: 14)
    let columns = Given(try generator.numbers([2, 7, 7, 24]))
    let rows = Given(try Transpose(permutation: [0, 3, 1, 2]).run([columns])[0])
    let last = try reduced(.mean, columns, [1, 2])
    let first = try reduced(.mean, rows, [2, 3])
    #expect(last.isIdentical(to: first))
  }

  @Test func codesAreSummedExactly() throws {
    let codes = try Given([4], [Int8(127), 127, 127, 126], .fixed(scale: 0.5, zeroPoint: -128))
    let mean: [Float] = try reduced(.mean, codes, [0]).elements()
    #expect(mean == [Float(255 * 3 + 254) * (0.5 / 4)])
    let sum: [Int16] = try reduced(
      .sum, codes, [0], output: .quantized(.int16, scale: 0.5, zeroPoint: 7)
    ).elements()
    #expect(sum == [1026])
    let largest = try Reduction(.maximum, axes: [0], keepsAxes: false).types(for: [codes])
    #expect(largest == [ValueType(.int8, [], .fixed(scale: 0.5, zeroPoint: -128))])
    let maximum: [Int8] = try reduced(.maximum, codes, [0]).elements()
    #expect(maximum == [127])
  }

  /// More codes than an int32 of a 16-bit type could sum.
  @Test func longSumsOfCodesDoNotOverflow() throws {
    let count = 70_000
    let codes = try Given(
      [count], Array(repeating: Int16.min, count: count), .fixed(scale: 1, zeroPoint: 32767))
    let mean: [Float] = try reduced(.mean, codes, [0]).elements()
    #expect(mean == [Float(-65535 * count) * (1 / Float(count))])
  }

  @Test func integersWrapAndMeansTruncate() throws {
    func integer(_ kind: Reduction.Kind, _ elements: [Int32]) throws -> Int32 {
      let data = try Given([elements.count], elements)
      return try referenceOutputs(Reduction(kind, axes: [0], keepsAxes: false), [data])[0]
        .elements(as: Int32.self)[0]
    }
    #expect(try integer(.sum, [.max, 1]) == .min)
    #expect(try integer(.product, [1 << 20, 1 << 20]) == 0)
    #expect(try integer(.mean, [-3, 0]) == -1)
    #expect(try integer(.maximum, []) == .min)
    #expect(throws: QMError.malformed("")) { try integer(.mean, []) }
    #expect(throws: QMError.unsupported("")) { try integer(.norm, [1]) }
  }

  @Test func threadsShareLargeReductions() throws {
    var generator = SeededGenerator(seed: 15)
    let data = Given(try generator.numbers([1, 300, 300]))
    _ = try reduced(.mean, data, [1])
    _ = try reduced(.logarithmOfSumOfExponentials, data, [2])
  }
}

import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct SoftmaxTests {
  private func softmax(_ elements: [Float], _ kind: Softmax.Kind = .softmax) throws -> [Float] {
    try Softmax(kind, axis: 0).run([Given([elements.count], elements)])[0].elements()
  }

  @Test func equalNumbersShareEqually() throws {
    #expect(try softmax([7, 7, 7, 7]) == [0.25, 0.25, 0.25, 0.25])
    #expect(try softmax([-3]) == [1])
    #expect(try softmax([0, 0], .logSoftmax) == [-0.6931472, -0.6931472])
  }

  @Test func infinitiesMaskAndNaNSpreads() throws {
    #expect(try softmax([-.infinity, 2, -.infinity, 2]) == [0, 0.5, 0, 0.5])
    #expect(try softmax([1e30, -1e30]) == [1, 0])
    for elements in [[-Float.infinity, -.infinity], [.infinity, 1], [.nan, 1]] {
      let values = try softmax(elements)
      #expect(values.contains { $0.bitPattern == 0x7FC0_0000 })
      #expect(values.allSatisfy { $0.isNaN || $0 == 0 }, "\(elements)")
    }
  }

  @Test func numbersOfARowAddUpToOne() throws {
    var generator = SeededGenerator(seed: 21)
    let values: [Float] = try softmax(generator.numbers([1000]).elements())
    #expect(abs(values.reduce(0, +) - 1) < 1e-5)
    let logarithms = try softmax(values, .logSoftmax)
    let plain = try softmax(values)
    for (logarithm, value) in zip(logarithms, plain) {
      #expect(abs(logarithm - UnaryFunction.logarithm(value)) < 2e-6)
    }
  }

  @Test(arguments: [Softmax.Kind.softmax, .logSoftmax])
  func rowsOfEveryLengthAgree(kind: Softmax.Kind) throws {
    var generator = SeededGenerator(seed: 22)
    for count in 1...67 {
      for output in OutputEncoding.samples {
        _ = try Softmax(kind, axis: 1, output: output).run([Given(generator.numbers([3, count]))])
      }
    }
  }

  @Test func everyAxisAndCodeTypeAgrees() throws {
    var generator = SeededGenerator(seed: 23)
    for axis in 0..<3 {
      for output in OutputEncoding.samples {
        let softmax = Softmax(.softmax, axis: axis, output: output)
        _ = try softmax.run([Given(generator.numbers([5, 19, 6]))])
        for (elementType, quantization) in codeTypes {
          _ = try softmax.run([Given(generator.bytes(elementType, [5, 19, 6]), quantization)])
        }
      }
    }
  }

  @Test func typesAreChecked() throws {
    let type = ValueType(.float32, [.free("N"), 10])
    #expect(try Softmax(.softmax, axis: 1).outputTypes(for: [Operand(type)]) == [type])
    #expect(throws: QMError.malformed("")) {
      try Softmax(.softmax, axis: 2).outputTypes(for: [Operand(type)])
    }
    #expect(throws: QMError.unsupported("")) {
      try Softmax(.softmax, axis: 0).outputTypes(for: [Operand(ValueType(.int8, [3]))])
    }
    #expect(throws: QMError.malformed("")) {
      try Softmax(.softmax, axis: 1, output: .quantized(.int8, scale: 0, zeroPoint: 0))
        .outputTypes(for: [Operand(type)])
    }
  }
}

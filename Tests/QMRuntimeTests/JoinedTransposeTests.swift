import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// A node and the Transpose behind it are one step where nobody else sees the value between.
@Suite struct JoinedTransposeTests {
  private let toLast = Operation.transpose(Transpose(permutation: [0, 2, 3, 1]))
  private let toFirst = Operation.transpose(Transpose(permutation: [0, 3, 1, 2]))

  /// Codes, channels last, numbers, a convolution, channels first.
  /// - Parameter extra: adds outputs, given the values in this order.
  private func program(
    _ extra: (_ builder: inout ProgramBuilder, _ values: [Int]) throws -> [String: Int] = { _, _ in
      [:]
    }
  ) throws -> Program {
    var generator = SeededGenerator(seed: 61)
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [1, 3, 6, 5])
    let weights = builder.constant(
      try Tensor([4, 3, 3, 3], (0..<108).map { _ in Float.random(in: -1...1, using: &generator) }))
    let codes = try builder.append(.quantize(Quantize(.int8, scale: 0.1, zeroPoint: 3)), [x])
    let last = try builder.append(toLast, [codes])
    let numbers = try builder.append(.dequantize(Dequantize()), [last])
    let sums = try builder.append(
      .convolution(
        Convolution(
          order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)),
      [numbers, weights])
    let first = try builder.append(toFirst, [sums])
    let values = [codes, last, numbers, sums, first]
    var outputs = try extra(&builder, values)
    outputs["y"] = first
    return builder.program(outputs)
  }

  private func input() throws -> [String: Tensor] {
    ["x": try Tensor([1, 3, 6, 5], (0..<90).map { Float($0 % 23) - 11 })]
  }

  /// The kernels of a run.
  private func kernels(_ program: Program, _ kernels: KernelSet = .portable) throws -> [String] {
    var names: [String] = []
    _ = try Session(Model(program, options: Model.Options(kernels: kernels)))
      .run(input(), timing: { if let step = $0 { names.append(step.kernel) } })
    return names
  }

  @Test func bitsStayAndStepsGo() throws {
    let expected = try Model(program(), options: Model.Options(kernels: .reference)).run(input())
    for set in KernelSet.available {
      let output = try Model(program(), options: Model.Options(kernels: set)).run(input())
      #expect(output["y"]!.isIdentical(to: expected["y"]!), "\(set)")
    }
    #expect(try kernels(program()).count == 3)
    #expect(try kernels(program(), .reference).count == 5)
  }

  /// Whoever watches a run sees every value, whatever runs came before.
  @Test func observersSeeEveryValue() throws {
    let program = try program()
    let session = Session(try Model(program, options: Model.Options(kernels: .portable)))
    let alone = try session.run(input())
    var seen: Set<Int> = []
    let watched = try session.run(input(), observing: { (value, _) in seen.insert(value) })
    let computed = program.nodes.flatMap(\.outputs)
    #expect(seen.isSuperset(of: computed))
    #expect(watched["y"]!.isIdentical(to: alone["y"]!))
  }

  @Test func whatOthersReadIsKept() throws {
    // An output of the program; another reader; another view of its bytes.
    #expect(try kernels(program { _, values in ["sums": values[3]] }).count == 4)
    let twice = try program { builder, values in
      ["double": try builder.append(.binary(Binary(.add)), [values[3], values[3]])]
    }
    #expect(try kernels(twice).count == 5)
    let viewed = try program { builder, values in
      ["flat": try builder.append(.flatten(Flatten(axis: 1)), [values[3]])]
    }
    #expect(try kernels(viewed).count == 4)
    let outputs = try Model(viewed).run(input())
    let first: [Float] = outputs["y"]!.elements()
    let last: [Float] = outputs["flat"]!.elements()
    for position in 0..<30 {
      for channel in 0..<4 {
        #expect(first[channel * 30 + position] == last[position * 4 + channel])
      }
    }
  }
}

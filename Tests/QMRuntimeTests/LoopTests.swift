import Foundation
import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct LoopTests {
  /// A network of one loop that reads x float32 [rows, 3] and, unless it has no end, n int64.
  private static func program(_ loop: Loop, isEndless: Bool = false) throws -> Program {
    let x = ValueType(.float32, [.free("rows"), 3])
    var values = [Program.Value(x, name: "x")]
    if !isEndless { values.append(Program.Value(ValueType(.int64, []), name: "n")) }
    let inputs = Array(values.indices)
    let operands: [Int?] = [isEndless ? nil : 1, nil, 0]
    let types = try loop.outputTypes(for: operands.map { $0.map { Operand(values[$0].type) } })
    values += types.map { Program.Value($0) }
    let outputs = Array(inputs.count..<values.count)
    let program = Program(
      values: values, constants: [],
      nodes: [Program.Node(.loop(loop), name: "loop", inputs: operands, outputs: outputs)],
      inputs: inputs,
      outputs: outputs.map { Program.Output(name: "y\($0 - inputs.count)", value: $0) })
    try program.validate()
    return program
  }

  /// h ← sin h, and each h.
  private static let sines = Loop(
    carriedCount: 1, nodes: [LoopNode(.unary(Unary(.sine)), inputs: [1])], condition: nil,
    results: [2, 2])
  /// h ← h and h below each other, which twice as many rows are in each time.
  private static let doubling = Loop(
    carriedCount: 1, nodes: [LoopNode(.concatenate(Concatenate(axis: 0)), inputs: [1, 1])],
    condition: nil, results: [2])

  private static func x(_ rows: Int) throws -> Tensor {
    var generator = SeededGenerator(seed: 5)
    return try generator.tensor([rows, 3], in: Float(-2)...2)
  }

  @Test(arguments: [0, 1, 7]) func aLoopComputesWhatItsIterationsDo(count: Int) throws {
    let x = try Self.x(2)
    var rows: [[Float]] = []
    var expected = x
    for _ in 0..<count {
      expected = try QMOperations.Operation.unary(Unary(.sine)).evaluate([expected])[0]
      rows.append(expected.elements(as: Float.self))
    }
    let program = try Self.program(Self.sines)
    for kernels in KernelSet.available {
      for threads in [1, 3] {
        let model = try Model(program, options: .init(threadCount: threads, kernels: kernels))
        let outputs = try model.run(["x": x, "n": Tensor([], [Int64(count)])])
        #expect(try #require(outputs["y0"]).isIdentical(to: expected))
        let stacked = try #require(outputs["y1"])
        #expect(stacked.shape == [count, 2, 3])
        #expect(stacked.elements(as: Float.self) == rows.flatMap { $0 })
      }
    }
  }

  @Test func aCarriedValueMayGrow() throws {
    let model = try Model(Self.program(Self.doubling))
    let x = try Self.x(2)
    let y = try #require(model.run(["x": x, "n": Tensor([], [Int64(4)])])["y0"])
    #expect(y.shape == [32, 3])
    let numbers = x.elements(as: Float.self)
    #expect(y.elements(as: Float.self) == (0..<16).flatMap { _ in numbers })
  }

  /// A small file could ask for all memory.
  @Test func aGrowingValueStaysWithinTheLimitOfARun() throws {
    let model = try Model(
      Self.program(Self.doubling), options: .init(runByteLimit: 1 << 20))
    let error = #expect(throws: QMError.self) {
      try model.run(["x": Self.x(2), "n": Tensor([], [Int64(60)])])
    }
    #expect(error?.code == .outOfMemory)
    let stacking = try Model(Self.program(Self.sines), options: .init(runByteLimit: 1 << 20))
    let other = #expect(throws: QMError.self) {
      try stacking.run(["x": Self.x(2), "n": Tensor([], [Int64.max])])
    }
    #expect([.outOfMemory, .malformed].contains(other?.code))
  }

  /// Both a loop of known shapes, which is one kernel, and one that grows until it is cancelled.
  @Test(arguments: [true, false]) func aLoopWithoutAnEndCanBeCancelled(isFixed: Bool) throws {
    var loop = Self.sines
    loop.results = [2]
    if !isFixed {
      // The rows change their number with the iteration, but stay few: the first row of both.
      loop.nodes = [
        LoopNode(.concatenate(Concatenate(axis: 0)), inputs: [1, 1]),
        LoopNode(.nonZero(NonZero()), inputs: [2]),
        LoopNode(.split(Split(axis: 0, sizes: .equal(parts: 2))), inputs: [2], outputCount: 2),
      ]
      loop.results = [4]
    }
    let program = try Self.program(loop, isEndless: true)
    let session = Session(try Model(program))
    try Self.cancelling(session) { try session.run(["x": Self.x(2)]) }

    let (x, y) = (try Self.x(2), try Self.x(2))
    let probe = Program.Probes.Probe(inputs: [x], floatOutputs: [y], outputs: [y])
    let bytes = try program.encoded(probes: Program.Probes([probe], areInputsMade: true))
    let model = try Model(bytes: bytes)
    let tested = Session(model)
    try Self.cancelling(tested) { try model.selfTest(bytes: bytes, in: tested) }
    #expect(throws: QMError.usage("")) { try model.selfTest(bytes: bytes, in: session) }
  }

  /// Requires that `body`, which runs the session until it is cancelled, ends.
  private static func cancelling(_ session: Session, _ body: () throws -> some Any) throws {
    let isDone = Locked(false)
    Thread.detachNewThread {
      // The run may not have begun when it is first asked to end.
      while !isDone.withLock({ $0 }) { session.cancel() }
    }
    #expect(throws: QMError.cancelled()) { try body() }
    isDone.withLock { $0 = true }
  }
}

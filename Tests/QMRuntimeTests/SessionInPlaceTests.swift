import CAllocationCount
import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct SessionInPlaceTests {
  /// int8 `[1, 9, 9, 8]`: a convolution of each kind, an addition, a pooling, a table and a product.
  private func program() throws -> Program {
    var generator = SeededGenerator(seed: 41)
    var builder = ProgramBuilder()
    let input = builder.input("x", .int8, [1, 9, 9, 8], ProgramBuilder.grid)
    let scale = builder.constant(try Tensor([1], [0.002] as [Float]))
    func convolution(_ input: Int, window: [Int], groups: Int = 1) throws -> Int {
      let weights = try builder.weights([8] + window + [8 / groups], &generator)
      return try builder.convolution(input, weights, scale: scale, groups: groups)
    }
    let direct = try convolution(input, window: [5, 3])
    let winograd = try convolution(direct, window: [3, 3])
    let depthwise = try convolution(winograd, window: [3, 3], groups: 8)
    let sum = try builder.append(
      .binary(Binary(.add, output: ProgramBuilder.codes)), [direct, depthwise])
    let pointwise = try convolution(sum, window: [1, 1])
    let last = try builder.weights([5, 8], &generator)
    let output = try builder.product(pointwise, last, scale: scale)
    return builder.program(["y": output])
  }

  @Test(arguments: [1, 2]) func givesTheBytesOfARunAndAllocatesNothing(threads: Int) throws {
    let model = try Model(program(), options: Model.Options(threadCount: threads))
    let session = Session(model)
    try session.prepare([[1, 9, 9, 8]])
    #expect(session.outputExtents == [[1, 9, 9, 5]])
    for seed: UInt64 in [1, 2, 3] {
      var generator = SeededGenerator(seed: seed)
      let codes = (0..<648).map { _ in Int8.random(in: -128...127, using: &generator) }
      let expected = try model.run([model.inputs[0].name: Tensor([1, 9, 9, 8], codes)])["y"]!
      try session.runInPlace()
      session.withInput(0) { bytes in codes.withUnsafeBytes { bytes.copyMemory(from: $0) } }
      let before = allocation_count()
      try session.runInPlace()
      // With several threads, each loop that they share takes a closure's memory.
      if allocation_count_is_available(), threads == 1 {
        #expect(allocation_count() == before)
      }
      session.withOutput(0) { bytes in
        #expect(bytes.elementsEqual(expected.bytes))
      }
    }
  }

  /// x `[n]` in two rows where the rate is 2, and in three elsewhere.
  private func switched() throws -> Program {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let rate = builder.input("rate", .int64, [])
    let (two, three) = (try builder.constant([2, -1]), try builder.constant([3, -1]))
    let number = builder.constant(try Tensor([], [Int64(2)]))
    let isTwo = try builder.append(.comparison(Compare(.equal)), [rate, number])
    let whenTrue = try builder.append(.reshape(Reshape()), [x, two])
    let whenFalse = try builder.append(.reshape(Reshape()), [x, three])
    let y = try builder.append(.if(If()), [isTwo, whenTrue, whenFalse])
    return builder.program(["y": y])
  }

  @Test func anInputThatChoosesABranchIsFollowed() throws {
    let session = Session(try Model(switched()))
    // The zero that the memory holds at first chooses three rows, which 4 elements do not fill.
    try session.prepare([[4], []])
    #expect(session.outputExtents == [])
    #expect(session.withOutput(0) { $0.count } == 0)
    #expect(throws: QMError.malformed("")) { try session.runInPlace() }
    func run(_ rate: Int64) throws {
      session.withInput(1) { $0.storeBytes(of: rate, as: Int64.self) }
      try session.runInPlace()
    }
    try run(2)
    #expect(session.outputExtents == [[2, 2]])
    // What the language makes once for a type is made by the first run that finds its plan.
    try session.runInPlace()
    let before = allocation_count()
    try session.runInPlace()
    if allocation_count_is_available() { #expect(allocation_count() == before) }
    #expect(throws: QMError.malformed("")) { try run(5) }

    try session.prepare([[6], []])
    session.withInput(0) { bytes in
      for index in 0..<6 {
        bytes.storeBytes(of: Float(index), toByteOffset: 4 * index, as: Float.self)
      }
    }
    for (rate, extents) in [(Int64(2), [2, 3]), (5, [3, 2]), (2, [2, 3])] {
      try run(rate)
      #expect(session.outputExtents == [extents])
      session.withOutput(0) { bytes in
        #expect(Array(bytes.bindMemory(to: Float.self)) == [0, 1, 2, 3, 4, 5])
      }
    }
  }

  @Test func extentsThatDoNotFitAreRefused() throws {
    let session = Session(try Model(program()))
    #expect(throws: QMError.invalidInput("")) { try session.prepare([]) }
    #expect(throws: QMError.invalidInput("")) { try session.prepare([[1, 9, 8, 8]]) }
  }
}

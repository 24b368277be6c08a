import Foundation
import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Whatever a file or an input holds, the process that embeds the runtime gets an error.
@Suite struct EmbeddingSafetyTests {
  /// One node over inputs and constants.
  private func program(
    _ operation: QMOperations.Operation, inputs: [ValueType], constants: [Tensor] = [],
    output: ValueType
  ) -> Program {
    var values = inputs.enumerated().map { Program.Value($1, name: "x\($0)") }
    for (index, tensor) in constants.enumerated() {
      values.append(Program.Value(tensor.type, constant: index))
    }
    let operands: [Int?] = values.indices.map { $0 }
    values.append(Program.Value(output, name: "y"))
    return Program(
      values: values, constants: constants.map { Program.Constant($0) },
      nodes: [Program.Node(operation, name: "node", inputs: operands, outputs: [operands.count])],
      inputs: Array(inputs.indices), outputs: [Program.Output(name: "y", value: operands.count)])
  }

  private func addition(_ left: Shape, _ right: Shape, _ sum: Shape) -> Program {
    program(
      .binary(Binary(.add)), inputs: [ValueType(.float32, left), ValueType(.float32, right)],
      output: ValueType(.float32, sum))
  }

  @Test func axesOfOneNameAreOneExtent() throws {
    let model = try Model(addition([.free("n"), 3], [.free("n"), 3], [.free("n"), 3]))
    let (one, two) = (try Tensor(zeros: .float32, [1, 3]), try Tensor(zeros: .float32, [2, 3]))
    #expect(try model.run(["x0": two, "x1": two])["y"]?.shape == [2, 3])
    let error = #expect(throws: QMError.invalidInput("")) {
      try model.run(["x0": two, "x1": one])
    }
    #expect(error?.description.contains("'n'") == true)
  }

  @Test func truthValuesAreZeroOrOne() throws {
    let model = try Model(
      program(
        .cast(Cast(to: .float32)), inputs: [ValueType(.bool, [2])],
        output: ValueType(.float32, [2])))
    #expect(
      try model.run(["x0": Tensor([2], [true, false])])["y"]?.elements(as: Float.self) == [1, 0])
    let bytes = try Tensor([2], [UInt8(2), 0])
    #expect(throws: QMError.invalidInput("")) {
      try model.run(["x0": Tensor(.bool, [2], buffer: bytes.buffer)])
    }
  }

  /// Small inputs, and a result larger than any machine: 2^40 elements.
  @Test func memoryThatCannotBeHadIsAnError() throws {
    let model = try Model(addition([.free("n"), 1], [1, .free("m")], [.free("n"), .free("m")]))
    let (long, wide) = (
      try Tensor(zeros: .float32, [1 << 20, 1]), try Tensor(zeros: .float32, [1, 1 << 20])
    )
    #expect(throws: QMError.outOfMemory(byteCount: 0)) {
      try model.run(["x0": long, "x1": wide])
    }
    // The model is as good as before.
    let one = try Tensor([1, 1], [Float(1)])
    #expect(try model.run(["x0": one, "x1": one])["y"]?.elements(as: Float.self) == [2])
  }

  @Test func memoryOfARunCanBeLimited() throws {
    let program = addition([.free("n"), 3], [.free("n"), 3], [.free("n"), 3])
    let model = try Model(program, options: Model.Options(runByteLimit: 4096))
    let (few, many) = (
      try Tensor(zeros: .float32, [8, 3]), try Tensor(zeros: .float32, [1000, 3])
    )
    #expect(try model.run(["x0": few, "x1": few])["y"]?.shape == [8, 3])
    #expect(throws: QMError.outOfMemory(byteCount: 0)) {
      try model.run(["x0": many, "x1": many])
    }
  }

  /// A few bytes of file that ask for 512 GiB when it is loaded, or for as much as memory would hold.
  @Test(arguments: [1 << 37, 1 << 29]) func constantsMayNotFillMemoryAtLoad(count: Int) throws {
    let program = program(
      .fill(Fill()), inputs: [],
      constants: [try Tensor([1], [Int64(count)]), try Tensor([1], [Float(1)])],
      output: ValueType(.float32, [.fixed(count)]))
    let model = try Model(program, options: Model.Options(runByteLimit: 1 << 20))
    #expect(throws: QMError.outOfMemory(byteCount: 0)) { try model.run([:]) }
  }

  @Test func whatExtentsComputeMayNotFillMemoryEither() throws {
    // The extents of x, repeated as often as a constant says.
    let values = [
      Program.Value(ValueType(.float32, [.free("n")]), name: "x"),
      Program.Value(ValueType(.int64, [1]), constant: 0),
      Program.Value(ValueType(.int64, [1])),
      Program.Value(ValueType(.int64, [.fixed(1 << 35)]), name: "y"),
    ]
    let program = Program(
      values: values, constants: [.init(try Tensor([1], [Int64(1 << 35)]))],
      nodes: [
        .init(.shape(ShapeOperation()), inputs: [0], outputs: [2]),
        .init(.tile(Tile()), inputs: [2, 1], outputs: [3]),
      ], inputs: [0], outputs: [.init(name: "y", value: 3)])
    let model = try Model(program, options: Model.Options(runByteLimit: 1 << 20))
    #expect(throws: QMError.outOfMemory(byteCount: 0)) {
      try model.run(["x": Tensor(zeros: .float32, [2])])
    }
  }

  @Test func indicesAreCheckedAtEachUse() throws {
    let table = try Tensor([4, 2], (0..<8).map { Float($0) })
    let program = Program(
      values: [
        .init(ValueType(.int64, [.free("n")]), name: "i"), .init(table.type, constant: 0),
        .init(ValueType(.float32, [.free("n"), 2]), name: "y"),
      ], constants: [.init(table)],
      nodes: [.init(.gather(Gather(axis: 0)), name: "look", inputs: [1, 0], outputs: [2])],
      inputs: [0], outputs: [.init(name: "y", value: 2)])
    for kernels in KernelSet.available {
      let model = try Model(program, options: Model.Options(kernels: kernels))
      func run(_ indices: [Int64]) throws -> [Float]? {
        try model.run(["i": Tensor([indices.count], indices)])["y"]?.elements(as: Float.self)
      }
      #expect(try run([3, 0, -1]) == [6, 7, 0, 1, 6, 7])
      for bad in [4, -5, .max, .min] as [Int64] {
        let error = #expect(throws: QMError.self) { try run([0, bad, 1]) }
        #expect(error?.description.contains("look") == true)
      }
      #expect(try run([1]) == [2, 3])
    }
  }

  @Test func aShorterFileIsAnError() throws {
    let bytes = try addition([2], [2], [2]).encoded()
    try withTemporaryFolder { folder in
      let path = folder + "/m.qm"
      for count in [0, 1, 67, bytes.count - 1] {
        try Data(bytes[..<count]).write(to: URL(filePath: path))
        #expect(throws: QMError.malformed("")) { try Model(contentsOf: path) }
      }
      try Data(bytes).write(to: URL(filePath: path))
      let model = try Model(contentsOf: path)
      // The model holds nothing of the file.
      try Data().write(to: URL(filePath: path))
      let x = try Tensor([2], [Float(1), 2])
      #expect(try model.run(["x0": x, "x1": x])["y"]?.elements(as: Float.self) == [2, 4])
    }
  }

  /// Hosts that process audio round otherwise, or flush small numbers to zero, for good.
  @Test(arguments: [1, 3]) func theModesOfTheCallerChangeNothing(threads: Int) throws {
    let third: Float = 1 / 3
    let model = try Model(
      addition([.free("n")], [.free("n")], [.free("n")]),
      options: Model.Options(threadCount: threads))
    let left = try Tensor([3], [third, .leastNonzeroMagnitude, 1] as [Float])
    let right = try Tensor([3], [0x1p-26, .leastNonzeroMagnitude, 0x1p-25] as [Float])
    let outputs = try model.run(["x0": left, "x1": right])
    let expected = try #require(outputs["y"])
    // Upward, downward, toward zero. Two modules of the C library have the names in C.
    #if arch(arm64)
      let modes: [Int32] = [0x400000, 0x800000, 0xC00000]
    #else
      let modes: [Int32] = [0x800, 0x400, 0xC00]
    #endif
    for mode in modes {
      #expect(fesetround(mode) == 0)
      let found = Result { try model.run(["x0": left, "x1": right]) }
      let kept = fegetround()
      fesetround(0)
      #expect(kept == mode, "the caller's mode is restored")
      let sums = try found.get()
      let sum = try #require(sums["y"])
      #expect(firstDifference(sum, expected) == nil)
    }
  }

  /// Extents that only loading computes, declared as others: weights would be read beyond their end.
  @Test func whatLoadingComputesIsHeldAgainstItsDeclaration() throws {
    for (declared, isGood) in [([2, 3], true), ([2048, 3], false)] {
      let values = [
        Program.Value(ValueType(.float32, [4, 3]), name: "x"),
        Program.Value(ValueType(.int32, [2]), constant: 0),
        Program.Value(ValueType(.float32, [1, 1]), constant: 1),
        Program.Value(ValueType(.int64, [2])),
        Program.Value(ValueType(.float32, Shape(declared))),
        Program.Value(ValueType(.float32, [4, .fixed(declared[0])]), name: "y"),
      ]
      let program = Program(
        values: values,
        constants: [
          .init(try Tensor([2], [Int32(2), 3])), .init(try Tensor([1, 1], [Float(2)])),
        ],
        nodes: [
          .init(.cast(Cast(to: .int64)), inputs: [1], outputs: [3]),
          .init(.expand(Expand()), inputs: [2, 3], outputs: [4]),
          .init(
            .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), inputs: [0, 4],
            outputs: [5]),
        ], inputs: [0], outputs: [.init(name: "y", value: 5)])
      if isGood {
        let ones = try Tensor([4, 3], [Float](repeating: 1, count: 12))
        #expect(
          try Model(program).run(["x": ones])["y"]?.elements(as: Float.self)
            == [Float](repeating: 6, count: 8))
      } else {
        #expect(throws: QMError.self) { try Model(program) }
      }
    }
  }

  /// Axes that a broadcast multiplies: 2^60 elements of a sum that nobody could hold.
  @Test func extentsAreBoundedBeforeKernelsComputeWithThem() throws {
    var values = [Program.Value(ValueType(.float32, [.free("n")]), name: "x")]
    var nodes: [Program.Node] = []
    var sum = 0
    for axis in 1..<4 {
      values.append(
        Program.Value(
          ValueType(.float32, Shape([.free("n")] + .init(repeating: 1, count: axis)))))
      let apart = values.count - 1
      nodes.append(
        .init(.unsqueeze(Unsqueeze(axes: Array(1...axis))), inputs: [0], outputs: [apart]))
      values.append(
        Program.Value(
          ValueType(.float32, Shape(.init(repeating: .free("n"), count: axis + 1))),
          name: axis == 3 ? "y" : ""))
      nodes.append(
        .init(.binary(Binary(.add)), inputs: [apart, sum], outputs: [values.count - 1]))
      sum = values.count - 1
    }
    let program = Program(
      values: values, constants: [], nodes: nodes, inputs: [0],
      outputs: [.init(name: "y", value: sum)])
    let model = try Model(program)
    #expect(try model.run(["x": Tensor(zeros: .float32, [3])])["y"]?.shape == [3, 3, 3, 3])
    #expect(throws: QMError.outOfMemory(byteCount: 0)) {
      try model.run(["x": Tensor(zeros: .float32, [1 << 20])])
    }
  }

  @Test func optionsBelowTheirLeastAreTheLeast() throws {
    var options = Model.Options()
    options.cachedPlanCount = 0
    options.threadCount = 0
    let model = try Model(addition([2], [2], [2]), options: options)
    let one = try Tensor([2], [Float(1), 2])
    #expect(try model.run(["x0": one, "x1": one])["y"]?.elements(as: Float.self) == [2, 4])
  }
}

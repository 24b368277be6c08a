import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import Testing

@Suite struct ResolutionTests {
  private func floats(_ count: Int) throws -> Tensor {
    try Tensor([count], (0..<count).map { Float($0) })
  }

  /// x as two rows where the condition holds, as three negated ones elsewhere, then flat again.
  private func rows(
    _ builder: inout ProgramBuilder, _ x: Int, where condition: Int, _ two: Int, _ three: Int
  ) throws -> Int {
    let pair = try builder.append(.reshape(Reshape()), [x, two])
    let whenTrue = try builder.append(.unary(Unary(.relu)), [pair])
    let negated = try builder.append(.unary(Unary(.negate)), [x])
    let whenFalse = try builder.append(.reshape(Reshape()), [negated, three])
    return try builder.append(.if(If()), [condition, whenTrue, whenFalse])
  }

  /// A bool input chooses; what the other branch would do does not fit the extents.
  private func switched() throws -> Program {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let flag = builder.input("flag", .bool, [])
    let (two, three) = (try builder.constant([2, -1]), try builder.constant([3, -1]))
    let y = try rows(&builder, x, where: flag, two, three)
    return builder.program(["y": y])
  }

  @Test func onlyTheChosenBranchIsPlanned() throws {
    let session = Session(try Model(switched()))
    func run(_ count: Int, _ flag: Bool) throws -> Tensor {
      try #require(session.run(["x": floats(count), "flag": Tensor([], [flag])])["y"])
    }
    for _ in 0..<2 {
      #expect(try run(4, true).shape == [2, 2])
      #expect(try run(9, false).shape == [3, 3])
      #expect(try run(6, true).shape == [2, 3])
      #expect(try run(6, false).shape == [3, 2])
      #expect(try run(6, false).elements(as: Float.self) == [0, -1, -2, -3, -4, -5])
    }
    #expect(throws: QMError.malformed("")) { try run(9, true) }
    #expect(throws: QMError.malformed("")) { try run(4, false) }
  }

  @Test func theExtentsOfARunMayChoose() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let (two, three) = (try builder.constant([2, -1]), try builder.constant([3, -1]))
    let four = try builder.constant([4])
    let extents = try builder.append(.shape(ShapeOperation()), [x])
    let isFour = try builder.append(.comparison(Compare(.equal)), [extents, four])
    let y = try rows(&builder, x, where: isFour, two, three)
    let model = try Model(builder.program(["y": y]))
    #expect(try model.run(["x": floats(4)])["y"]?.shape == [2, 2])
    #expect(try model.run(["x": floats(9)])["y"]?.shape == [3, 3])
    #expect(try model.run(["x": floats(6)])["y"]?.shape == [3, 2])
  }

  /// Whether the first element is positive: known in the run alone.
  private func chosenByData(_ right: Int) throws -> Program {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let (two, other) = (try builder.constant([2, -1]), try builder.constant([Int64(right), -1]))
    let first = builder.constant(try Tensor([1], [Int64(0)]))
    let zero = builder.constant(try Tensor([], [Float(0)]))
    let element = try builder.append(.gather(Gather(axis: 0)), [x, first])
    let isPositive = try builder.append(.comparison(Compare(.greater)), [element, zero])
    let y = try rows(&builder, x, where: isPositive, two, other)
    return builder.program(["y": y])
  }

  @Test func dataChoosesBetweenEqualExtents() throws {
    let model = try Model(chosenByData(2))
    for start: Float in [1, -1] {
      let x = try Tensor([4], [start, -2, 3, -4])
      let y = try #require(try model.run(["x": x])["y"])
      #expect(y.shape == [2, 2])
      #expect(
        y.elements(as: Float.self) == (start > 0 ? [1, 0, 3, 0] : [1, 2, -3, 4]))
    }
  }

  /// The condition is computed first, then the rest is planned for it.
  @Test func dataChoosesBetweenUnequalShapes() throws {
    let model = try Model(chosenByData(3))
    let session = Session(model)
    for _ in 0..<2 {
      for start: Float in [1, -1] {
        let x = try Tensor([6], [start, -2, 3, -4, 5, -6])
        let y = try #require(try session.run(["x": x])["y"])
        #expect(y.shape == (start > 0 ? [2, 3] : [3, 2]))
        #expect(
          y.elements(as: Float.self)
            == (start > 0 ? [1, 0, 3, 0, 5, 0] : [1, 2, -3, 4, -5, 6]))
      }
    }
  }

  /// A condition of two elements chooses nothing, whenever it is known.
  @Test func aConditionOfSeveralElementsIsRefused() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let zero = builder.constant(try Tensor([], [Float(0)]))
    let (two, three) = (try builder.constant([2, -1]), try builder.constant([3, -1]))
    let condition = try builder.append(.comparison(Compare(.greater)), [x, zero])
    let y = try rows(&builder, x, where: condition, two, three)
    let model = try Model(builder.program(["y": y]))
    #expect(throws: QMError.self) { try model.run(["x": floats(6)]) }
  }

  /// 2 · x, the indices of its positive elements, and those elements: both shapes depend on data.
  private func positives() throws -> Program {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let zero = builder.constant(try Tensor([], [Float(0)]))
    let double = try builder.append(.binary(Binary(.add)), [x, x])
    let isPositive = try builder.append(.comparison(Compare(.greater)), [double, zero])
    let found = try builder.append(.nonZero(NonZero()), [isPositive])
    let columns = try builder.append(.transpose(Transpose(permutation: [1, 0])), [found])
    let chosen = try builder.append(.gatherND(GatherND(batchAxes: 0)), [double, columns])
    let y = try builder.append(.unary(Unary(.negate)), [chosen])
    return builder.program(["y": y, "indices": found])
  }

  @Test func dataDecidesShapes() throws {
    let session = Session(try Model(positives()))
    let cases: [([Float], [Float], [Int64])] = [
      ([1, -1, 3], [-2, -6], [0, 2]), ([5, 6, 7], [-10, -12, -14], [0, 1, 2]),
      ([1, -1, 3], [-2, -6], [0, 2]), ([-1, 4], [-8], [1]),
    ]
    for (x, y, indices) in cases {
      let outputs = try session.run(["x": Tensor([x.count], x)])
      #expect(outputs["y"]?.shape == [y.count])
      #expect(outputs["y"]?.elements(as: Float.self) == y)
      #expect(outputs["indices"]?.elements(as: Int64.self) == indices)
      var seen = 0
      _ = try session.run(["x": Tensor([x.count], x)], observing: { (_, _) in seen += 1 })
      #expect(seen >= 4)
    }
  }

  @Test func dataDecidesShapesInPlace() throws {
    let session = Session(try Model(positives()))
    try session.prepare([[3]])
    let y = try #require(session.model.outputs.firstIndex { $0.name == "y" })
    for (x, expected) in [([1, -1, 3], [-2, -6]), ([5, 6, 7], [-10, -12, -14])]
      as [([Float], [Float])]
    {
      session.withInput(0) { bytes in
        x.withUnsafeBytes { bytes.copyMemory(from: $0) }
      }
      try session.runInPlace()
      #expect(session.outputExtents[y] == [expected.count])
      session.withOutput(y) { bytes in
        #expect(Array(bytes.bindMemory(to: Float.self)) == expected)
      }
    }
  }

  @Test func whatNoOutputNeedsIsNotRun() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let pair = try builder.constant([2, -1])
    _ = try builder.append(.reshape(Reshape()), [x, pair])
    let negated = try builder.append(.unary(Unary(.negate)), [x])
    let extents = try builder.append(.shape(ShapeOperation()), [negated])
    let y = try builder.append(.unary(Unary(.relu)), [x])
    let session = Session(try Model(builder.program(["y": y, "extents": extents])))
    var seen: [Int] = []
    // An extent that the unneeded reshape does not take.
    let outputs = try session.run(
      ["x": floats(3)], timing: { step in if let step { seen.append(step.node) } })
    #expect(seen == [3])
    #expect(outputs["extents"]?.elements(as: Int64.self) == [3])
  }

  @Test func chainsOfVeryManyNodesArePlanned() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    var y = x
    for _ in 0..<50_000 { y = try builder.append(.identity(Identity()), [y]) }
    let model = try Model(builder.program(["y": y]))
    #expect(try model.run(["x": floats(3)])["y"]?.elements(as: Float.self) == [0, 1, 2])
  }

  @Test func smallInputsThatConditionsAreMadeOfSwitch() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let rate = builder.input("rate", .int64, [])
    let many = builder.input("many", .int64, [17])
    let unused = builder.input("unused", .bool, [])
    let number = builder.constant(try Tensor([], [Int64(16000)]))
    let first = builder.constant(try Tensor([], [Int64(0)]))
    let isRate = try builder.append(.comparison(Compare(.equal)), [rate, number])
    let element = try builder.append(.gather(Gather(axis: 0)), [many, first])
    let isMany = try builder.append(.comparison(Compare(.equal)), [element, number])
    let negated = try builder.append(.unary(Unary(.negate)), [x])
    var y = try builder.append(.if(If()), [isRate, x, negated])
    #expect(builder.program(["y": y, "unused": unused]).switchInputs == [1])
    // More elements than a switch has, and a float beside the small one.
    y = try builder.append(.if(If()), [isMany, y, negated])
    #expect(builder.program(["y": y]).switchInputs == [1])
  }
}

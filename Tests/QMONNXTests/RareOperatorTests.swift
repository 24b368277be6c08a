import QMONNX
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Operators that become chains of others, against what they are defined as, on inputs drawn at random.
@Suite struct RareOperatorTests {
  private func run(
    _ network: ONNXNetwork, _ inputs: [String: Tensor]
  ) throws -> [String: Tensor] {
    try Model(ONNXReader.read(bytes: network.encoded()).flattened().program).run(inputs)
  }

  // MARK: - Integers of few bits

  /// The low bits of each integer, with their sign.
  @Test(arguments: [
    (type: 21, bits: 4, isSigned: false), (22, 4, true), (25, 2, false), (26, 2, true),
  ])
  func castsToFewBitsKeepTheLowOnes(type: Int, bits: Int, isSigned: Bool) throws {
    var network = ONNXNetwork(opset: 25)
    network.inputs = [("x", ValueType(.int32, [.free("n")]))]
    network.nodes = [.init("Cast", ["x"], ["y"], [("to", .integer(type))])]
    network.outputs = ["y"]
    let numbers = (-300..<300).map { Int32($0) } + [.min, .max]
    let result = try #require(run(network, ["x": Tensor([numbers.count], numbers)])["y"])
    for (index, number) in numbers.enumerated() {
      let low = number & (1 << bits - 1)
      let expected = isSigned && low >> (bits - 1) == 1 ? low - 1 << bits : low
      let found =
        isSigned
        ? Int32(result.elements(as: Int8.self)[index])
        : Int32(result.elements(as: UInt8.self)[index])
      #expect(found == expected, "\(number)")
    }
  }

  /// A value that int4 numbers are moved into is one of int4, and a Cast to int8 makes it none.
  @Test func fewBitsSurviveMovesAndEndAtCasts() throws {
    var network = ONNXNetwork(opset: 25)
    network.inputs = [("x", ValueType(.float32, [2, 2])), ("z", ValueType(.float32, [2, 2]))]
    network.nodes = [
      .init("Cast", ["x"], ["c"], [("to", .integer(22))]),
      .init("Transpose", ["c"], ["t"]),
      .init("CastLike", ["z", "t"], ["few"]),
      .init("Cast", ["t"], ["w"], [("to", .integer(3))]),
      .init("CastLike", ["z", "w"], ["many"]),
    ]
    network.outputs = ["few", "many"]
    let numbers = try Tensor([2, 2], [9, -9, 7, 100] as [Float])
    let results = try run(network, ["x": numbers, "z": numbers])
    #expect(results["few"]?.elements(as: Int8.self) == [-7, 7, 7, 4])
    #expect(results["many"]?.elements(as: Int8.self) == [9, -9, 7, 100])
  }

  // MARK: - Trees

  /// A tree of the domain ai.onnx.ml.
  private indirect enum Tree {
    case leaf(Float)
    case question(mode: String, feature: Int, value: Float, followsYes: Bool, yes: Tree, no: Tree)

    static func random(
      depth: Int, features: Int, modes: [String], using generator: inout SeededGenerator
    ) -> Tree {
      guard depth > 0, Int.random(in: 0..<6, using: &generator) > 0 else {
        return .leaf(Float(Int.random(in: -50...50, using: &generator)))
      }
      return .question(
        mode: modes.randomElement(using: &generator)!,
        feature: Int.random(in: 0..<features, using: &generator),
        value: Float(Int.random(in: -2...2, using: &generator)),
        followsYes: Bool.random(using: &generator),
        yes: random(depth: depth - 1, features: features, modes: modes, using: &generator),
        no: random(depth: depth - 1, features: features, modes: modes, using: &generator))
    }

    func weight(of row: ArraySlice<Float>) -> Float {
      switch self {
      case .leaf(let weight): return weight
      case .question(let mode, let feature, let value, let followsYes, let yes, let no):
        let x = row[row.startIndex + feature]
        let isTrue: Bool =
          switch mode {
          case "BRANCH_LEQ": x <= value
          case "BRANCH_LT": x < value
          case "BRANCH_GTE": x >= value
          case "BRANCH_GT": x > value
          case "BRANCH_EQ": x == value
          default: x != value && !x.isNaN
          }
        return (isTrue || x.isNaN && followsYes ? yes : no).weight(of: row)
      }
    }
  }

  /// The attributes of trees.
  private struct Nodes {
    var integers: [String: [Int]] = [:]
    var modes: [String] = []
    var values: [Float] = []
    var weights: [Float] = []

    /// - Returns: the number of the root in the tree.
    mutating func add(_ tree: Tree, to number: Int, next: inout Int) -> Int {
      let own = next
      next += 1
      let place = modes.count
      var (mode, feature, value, tracks) = ("LEAF", 0, Float(0), 0)
      if case .question(let m, let f, let v, let followsYes, _, _) = tree {
        (mode, feature, value, tracks) = (m, f, v, followsYes ? 1 : 0)
      }
      modes.append(mode)
      values.append(value)
      for (name, number) in [
        ("nodes_treeids", number), ("nodes_nodeids", own), ("nodes_featureids", feature),
        ("nodes_missing_value_tracks_true", tracks), ("nodes_truenodeids", 0),
        ("nodes_falsenodeids", 0),
      ] { integers[name, default: []].append(number) }
      switch tree {
      case .leaf(let weight):
        for (name, number) in [
          ("target_treeids", number), ("target_nodeids", own), ("target_ids", 0),
        ] { integers[name, default: []].append(number) }
        weights.append(weight)
      case .question(_, _, _, _, let yes, let no):
        integers["nodes_truenodeids"]![place] = add(yes, to: number, next: &next)
        integers["nodes_falsenodeids"]![place] = add(no, to: number, next: &next)
      }
      return own
    }

    var attributes: [(name: String, value: ONNXNetwork.Attribute)] {
      integers.sorted { $0.key < $1.key }.map { ($0.key, .integers($0.value)) }
        + [
          ("nodes_modes", .texts(modes)), ("nodes_values", .numbers(values)),
          ("target_weights", .numbers(weights)),
        ]
    }
  }

  /// Trees with every kind of question, also of NaN, infinities and numbers equal to a threshold.
  @Test(arguments: 0..<12) func treesDecideAsDefined(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    let trees = (0..<5).map { _ in
      Tree.random(
        depth: seed % 6, features: 3, modes: seed % 2 == 0 ? [modes[0]] : modes, using: &generator)
    }
    var nodes = Nodes()
    for (number, tree) in trees.enumerated() {
      var next = 0
      _ = nodes.add(tree, to: number, next: &next)
    }
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.float32, [.free("n"), 3]))]
    network.nodes = [
      .init("TreeEnsembleRegressor", ["x"], ["y"], nodes.attributes, domain: "ai.onnx.ml")
    ]
    network.outputs = ["y"]
    let special: [Float] = [.nan, .infinity, -.infinity, -0.0]
    let numbers = (0..<180).map { _ in
      Int.random(in: 0..<6, using: &generator) == 0
        ? special.randomElement(using: &generator)!
        : Float(Int.random(in: -3...3, using: &generator))
          / Float(Int.random(in: 1...2, using: &generator))
    }
    let result = try #require(run(network, ["x": Tensor([60, 3], numbers)])["y"])
    #expect(result.shape == [60, 1])
    for (row, found) in result.elements(as: Float.self).enumerated() {
      let features = numbers[row * 3..<row * 3 + 3]
      // Sums of small integers are exact.
      #expect(found == trees.reduce(0) { $0 + $1.weight(of: features) }, "\(Array(features))")
    }
  }

  // MARK: - Unique

  /// Rows of few numbers, so that many are equal.
  @Test(arguments: [(rows: 0, columns: 1), (1, 1), (40, 1), (40, 2), (25, 3)], [true, false])
  func uniqueRowsAsDefined(extents: (rows: Int, columns: Int), isSorted: Bool) throws {
    var generator = SeededGenerator(seed: 5)
    let (count, columns) = extents
    let rows = (0..<count).map { _ in
      (0..<columns).map { _ in Int32.random(in: -2...2, using: &generator) }
    }
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.int32, [.free("n"), .fixed(columns)]))]
    network.nodes = [
      .init(
        "Unique", ["x"], ["y", "i", "v", "c"],
        [("axis", .integer(0)), ("sorted", .integer(isSorted ? 1 : 0))])
    ]
    network.outputs = ["y", "i", "v", "c"]
    let results = try run(network, ["x": Tensor([count, columns], rows.flatMap { $0 })])
    var expected: [[Int32]] = []
    for row in rows where !expected.contains(row) { expected.append(row) }
    if isSorted { expected.sort { $0.lexicographicallyPrecedes($1) } }
    #expect(results["y"]?.shape == [expected.count, columns])
    #expect(results["y"]?.elements(as: Int32.self) == expected.flatMap { $0 })
    #expect(
      results["i"]?.elements(as: Int64.self)
        == expected.map { row in Int64(rows.firstIndex(of: row)!) })
    #expect(
      results["v"]?.elements(as: Int64.self)
        == rows.map { row in Int64(expected.firstIndex(of: row)!) })
    #expect(
      results["c"]?.elements(as: Int64.self)
        == expected.map { row in Int64(rows.count { $0 == row }) })
  }

  // MARK: - Det

  /// The sum over all permutations of small integers, which elimination gives nearly.
  @Test(arguments: 1...5) func determinantsAsDefined(size: Int) throws {
    var generator = SeededGenerator(seed: UInt64(size))
    let matrices = (0..<20).map { _ in
      (0..<size * size).map { _ in Float(Int.random(in: -3...3, using: &generator)) }
    }
    func determinant(_ matrix: [Float], _ size: Int) -> Double {
      guard size > 1 else { return Double(matrix[0]) }
      return (0..<size).reduce(0) { sum, column in
        let minor = (size..<size * size).filter { $0 % size != column }.map { matrix[$0] }
        let sign: Double = column % 2 == 0 ? 1 : -1
        return sum + sign * Double(matrix[column]) * determinant(minor, size - 1)
      }
    }
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.float32, [.free("n"), .fixed(size), .fixed(size)]))]
    network.nodes = [.init("Det", ["x"], ["y"])]
    network.outputs = ["y"]
    let tensor = try Tensor([matrices.count, size, size], matrices.flatMap { $0 })
    let found = try #require(run(network, ["x": tensor])["y"]).elements(as: Float.self)
    for (matrix, value) in zip(matrices, found) {
      #expect(abs(Double(value) - determinant(matrix, size)) < 0.01)
    }
  }

  /// The places of all windows along an axis become a constant, whose size the file decides.
  @Test func aDeformableConvolutionOfHugeWindowsIsRefused() throws {
    var network = ONNXNetwork(opset: 22)
    network.inputs = [
      ("x", ValueType(.float32, [1, 1, 8192, 64])),
      ("offsets", ValueType(.float32, [1, 8192, 8129, 1])),
    ]
    network.constants = [("w", try Tensor(zeros: .float32, [1, 1, 64, 64]))]
    network.nodes = [.init("DeformConv", ["x", "w", "offsets"], ["y"])]
    network.outputs = ["y"]
    #expect(throws: QMError.unsupported("")) {
      try ONNXReader.read(bytes: network.encoded())
    }
  }
}

import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct LoweringTests {
  /// Two convolutions with a residual around the second, a pooling and a product.
  private func makeNetwork() throws -> (graph: Graph, plan: Plan) {
    var generator = SeededGenerator(seed: 9)
    func random(_ shape: [Int]) throws -> Tensor {
      try Tensor(
        shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &generator) })
    }
    var graph = Graph()
    var weightCodes: [Graph.ValueID: QuantizedTensor] = [:]
    let grid = QuantizationParameters(covering: -2, 2)
    func weights(_ name: String, _ shape: [Int]) throws -> Graph.ValueID {
      let tensor = try random(shape)
      let id = graph.addConstant(name: name, tensor)
      weightCodes[id] = QuantizedTensor(
        codes: try Tensor(
          shape, tensor.elements(as: Float.self).map { Int8(($0 * 127).rounded()) }),
        scales: try Tensor([shape[0]], [Float](repeating: 1 / 127, count: shape[0])),
        granularity: .perChannel(axis: 0), codeRange: -127...127)
      return id
    }
    func convolution(_ epilogue: Epilogue) -> QMOperations.Operation {
      .convolution(
        Convolution(
          order: .channelsLast, strides: [1, 1], dilations: [1, 1],
          padding: .explicit(before: [1, 1], after: [1, 1]), groups: 1, epilogue: epilogue))
    }
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 6, 6, 4]))
    let first = try graph.append(
      convolution(Epilogue(function: .relu)), name: "first",
      [x, weights("first.w", [4, 3, 3, 4]), graph.addConstant(name: "first.b", random([4]))])[0]
    let second = try graph.append(
      convolution(Epilogue()), name: "second",
      [first, weights("second.w", [4, 3, 3, 4]), nil, nil, nil, first])[0]
    let pooled = try graph.append(
      .pooling(
        Pooling(
          kind: .maximum, order: .channelsLast, window: [6, 6], strides: [1, 1],
          dilations: [1, 1], padding: .explicit(before: [0, 0], after: [0, 0]), roundsUp: false)),
      name: "pool", [second])[0]
    let flat = try graph.append(.flatten(Flatten(axis: 1)), name: "flat", [pooled])[0]
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y",
      [flat, weights("y.w", [3, 4])])[0]
    try graph.addOutput(name: "y", y)
    var plan = Plan(for: graph)
    plan.weights = weightCodes
    for value in [x, first, second, pooled, flat] { plan.activations[value] = .fixed(grid) }
    return (graph, plan)
  }

  @Test func aPlanOfAnotherGraphIsRefused() throws {
    let (graph, plan) = try makeNetwork()
    var longer = graph
    try longer.append(.unary(Unary(.relu)), name: "more", [graph.outputs[0].value])
    #expect(throws: QMError.usage("")) { try longer.inserting(plan) }
    var twin = Graph()
    _ = try twin.addInput(name: "other", graph[graph.inputs[0]].type)
    #expect(throws: QMError.usage("")) { try twin.inserting(plan) }
    #expect(try makeNetwork().graph.identity == graph.identity)
  }

  /// The operands of a Concat and its result have scales of their own; the result also has a constant.
  @Test func aConcatOfUnlikeScalesMovesCodesOfItsResult() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [2, 5]))
    let relu = try graph.append(.unary(Unary(.relu)), name: "relu", [x])[0]
    let doubled = try graph.append(.binary(Binary(.add)), name: "doubled", [x, x])[0]
    let fixed = graph.addConstant(
      name: "fixed", try Tensor([2, 2], [0.3, -7, 1.26, 0] as [Float]))
    let unrounded = try graph.append(.unary(Unary(.exponential)), name: "unrounded", [x])[0]
    let joined = try graph.append(
      .concatenate(Concatenate(axis: 1)), name: "joined", [relu, doubled, fixed, unrounded])[0]
    let y = try graph.append(.unary(Unary(.negate)), name: "y", [joined])[0]
    try graph.addOutput(name: "y", y)
    var plan = Plan(for: graph)
    plan.activations[x] = .fixed(.init(covering: -1, 1))
    plan.activations[relu] = .fixed(.init(covering: 0, 1))
    plan.activations[doubled] = .fixed(.init(covering: -2, 2))
    plan.activations[joined] = .fixed(.init(covering: -2, 4))
    let simulation = try graph.inserting(plan)
    let lowered = try simulation.lowered()
    let node = try #require(lowered.nodes.first { $0.operation.name == "Concatenate" })
    let grid = QuantizationParameters(covering: -2, 4)
    for value in node.inputs.compactMap({ $0 }) + node.outputs {
      #expect(
        lowered[value].type.quantization
          == .fixed(scale: grid.scale, zeroPoint: grid.zeroPoint))
    }
    let input = ["x": try Tensor([2, 5], (0..<10).map { Float($0) / 5 - 0.93 })]
    let expected = try Model(simulation.flattened().program).run(input)["y"]!
    let found = try Model(lowered.flattened().program).run(input)["y"]!
    #expect(found.elements(as: Float.self) == expected.elements(as: Float.self))
  }

  @Test func nothingIsRealBetweenTheFirstCodeAndTheOutput() throws {
    let (graph, plan) = try makeNetwork()
    let lowered = try graph.inserting(plan).lowered()
    #expect(
      lowered.nodes.map(\.operation.name) == [
        "Quantize", "Convolution", "Convolution", "Pooling", "Flatten", "MatrixMultiply",
      ])
    for node in lowered.nodes.dropLast() {
      for output in node.outputs { #expect(lowered[output].type.elementType == .int8) }
    }
    let bias = try #require(lowered.nodes[1].input(ProductOperand.bias))
    #expect(lowered[bias].type.elementType == .int32)
    let residual = try #require(lowered.nodes[2].input(ProductOperand.residual))
    #expect(lowered[residual].type.elementType == .int8)
    #expect(lowered[lowered.outputs[0].value].type.elementType == .float32)
  }

  @Test func anOutputThatIsAlsoReadLeavesUnrounded() throws {
    let (network, plan) = try makeNetwork()
    var graph = network
    let second = try #require(graph.nodes[1].outputs.first)
    try graph.addOutput(name: "second", second)
    let lowered = try graph.inserting(plan).lowered()
    let output = try #require(lowered.outputs.first { $0.name == "second" })
    #expect(lowered[output.value].type.elementType == .float32)
    #expect(lowered.nodes.filter { $0.operation.name == "Quantize" }.count == 2)
  }

  @Test func dynamicActivationsAreQuantizedInFrontOfEachProduct() throws {
    let (graph, calibrated) = try makeNetwork()
    var plan = calibrated
    plan.activations = [:]
    for node in graph.nodes {
      switch node.operation {
      case .convolution, .matrixMultiply:
        if let input = node.input(ProductOperand.input) { plan.activations[input] = .dynamic }
      default: continue
      }
    }
    let lowered = try graph.inserting(plan).lowered()
    let names = lowered.nodes.map(\.operation.name)
    #expect(names.filter { $0 == "DynamicQuantize" }.count == 3)
    for node in lowered.nodes where node.operation.name == "Convolution" {
      let input = try #require(node.input(ProductOperand.input))
      #expect(lowered[input].type.quantization == .dynamic(axes: 1))
      #expect(lowered[node.outputs[0]].type.elementType == .float32)
    }
  }

  /// `x` quantized, an operation that moves it together with `constant`, quantized as well, and a
  /// product behind it.
  private func moving(
    _ operation: QMOperations.Operation, with constant: Tensor, constantIsFirst: Bool,
    condition: Tensor? = nil, isOutput: Bool = false
  ) throws -> Graph {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [2, 4]))
    let other = graph.addConstant(name: "other", constant)
    var inputs = constantIsFirst ? [other, x] : [x, other]
    if let condition { inputs.insert(graph.addConstant(name: "condition", condition), at: 0) }
    let moved = try graph.append(operation, name: "moved", inputs)[0]
    let count = try #require(graph[moved].type.shape[1].extent)
    let weights = try Tensor([2, count], (0..<(2 * count)).map { Float($0 % 5) / 5 - 0.4 })
    let w = graph.addConstant(name: "w", weights)
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y", [moved, w])[0]
    try graph.addOutput(name: "y", y)
    if isOutput { try graph.addOutput(name: "moved", moved) }
    var plan = Plan(for: graph)
    for value in [x, moved] {
      plan.activations[value] = .fixed(QuantizationParameters(covering: -2, 1))
    }
    return try graph.inserting(plan)
  }

  private static let selection = QMOperations.Operation.select(Select())
  private static let condition = try! Tensor([4], [true, false, false, true])

  /// The constant's elements may lie anywhere: what rounds the result rounds them to the same codes.
  @Test(arguments: [0.3, -5, -1e9, -Float.infinity, .nan], [false, true])
  func aConstantIsChosenAsCodes(_ number: Float, isFirst: Bool) throws {
    let simulation = try moving(
      Self.selection, with: Tensor([1], [number]), constantIsFirst: isFirst,
      condition: Self.condition)
    let lowered = try simulation.lowered()
    #expect(lowered.nodes.map(\.operation.name).prefix(2) == ["Quantize", "Select"])
    let selected = try #require(lowered.nodes[1].outputs.first)
    #expect(lowered[selected].type.elementType == .int8)
    let x = ["x": try Tensor([2, 4], [-2, -0.7, 0.1, 1, 0.3, 0.9, -1.4, 0] as [Float])]
    let expected = try Model(simulation.flattened().program).run(x)["y"]!
    let actual = try Model(lowered.flattened().program).run(x)["y"]!
    #expect(actual.isIdentical(to: expected))
  }

  @Test func aConstantIsJoinedAsCodes() throws {
    let lowered = try moving(
      .concatenate(Concatenate(axis: 1)), with: Tensor([2, 1], [0.5, -0.25] as [Float]),
      constantIsFirst: true
    ).lowered()
    #expect(lowered.nodes.map(\.operation.name).prefix(2) == ["Quantize", "Concatenate"])
  }

  @Test func whatLeavesUnroundedIsChosenInFloat32() throws {
    let lowered = try moving(
      Self.selection, with: Tensor([1], [Float(0.3)]), constantIsFirst: false,
      condition: Self.condition, isOutput: true
    ).lowered()
    let output = try #require(lowered.outputs.first { $0.name == "moved" })
    #expect(lowered[output.value].type.elementType == .float32)
    #expect(lowered.nodes.filter { $0.operation.name == "Quantize" }.count == 2)
  }
}

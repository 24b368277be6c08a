import QMFormat
import QMGraph
import QMOperations
import QMReport
import QMRuntime
import QMTensor
import Testing

/// A state is judged by what the next step makes of it.
@Suite struct StatesTests {
  private typealias Part = Program.Metadata.Part

  /// `y = x + state[:, :2]` and `next = factors · state`, of which no output reads the last two
  /// elements.
  private func network(
    _ input: String, _ output: String, inputShape: Shape = [1, 4],
    factors: [Float] = [2, 2, 2, 2]
  ) throws -> Program {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 2]))
    let state = try graph.addInput(name: input, ValueType(.float32, inputShape))
    let constant = try graph.addConstant(name: "factors", Tensor([1, 4], factors))
    let next = try graph.append(
      .binary(Binary(.multiply)), name: "next", [state, constant], outputNames: [output])[0]
    let bounds = try [0, 2, 1].map { number in
      try graph.addConstant(name: "bound \(number)", Tensor([1], [Int64(number)]))
    }
    let read = try graph.append(.slice(Slice()), name: "read", [state] + bounds)[0]
    let y = try graph.append(.binary(Binary(.add)), name: "y", [x, read], outputNames: ["y"])[0]
    try graph.addOutput(name: "y", y)
    try graph.addOutput(name: output, next)
    return graph.flattened().program
  }

  @Test(arguments: [
    ("h", "hn"), ("h_0", "h_n"), ("h0", "hn"), ("state", "stateN"),
    ("conv_cache", "conv_cache_out"),
    ("encoder.state.in", "encoder.state.out"), ("r1i", "r1o"), ("prev_hidden", "new_hidden"),
    ("past_key_values.0.key", "present.0.key"), ("cached_key_3", "new_cached_key_3"),
  ])
  func namesOfStates(_ input: String, _ output: String) throws {
    #expect(try States(of: network(input, output)).inputs == [output: input])
  }

  @Test(arguments: [
    ("h", "c"), ("state", "probabilities"), ("input_1", "output_1"),
    ("past.0.key", "present.1.key"),
    ("past.0.key", "present.0.value"),
  ])
  func otherNames(_ input: String, _ output: String) throws {
    #expect(try States(of: network(input, output)).inputs.isEmpty)
  }

  @Test func shapesMustFit() throws {
    #expect(try States(of: network("h", "hn", inputShape: [1, 1])).inputs.isEmpty)
  }

  /// Elements of the state that no output reads may have any error.
  @Test func theNextStepDecides() throws {
    let float = try network("h", "hn")
    let inputs = [
      "x": try Tensor([1, 2], [1, 2] as [Float]),
      "h": try Tensor([1, 4], [1, 2, 3, 4] as [Float]),
    ]
    let parts = try JudgedParts(of: float, Model(float), on: [inputs])
    #expect(parts.parts == ["y": [Part(), Part(isNextStep: true)]])

    func comparisons(_ program: Program) throws -> [String: OutputComparison] {
      let (session, run) = (Session(try Model(program)), JudgedRun(program, parts))
      let reference = try JudgedRun(float, parts)(Session(Model(float)), inputs)
      let measured = try run(session, inputs)
      let next = run.nextStep(session, inputs, reference: reference, measured: measured)
      return try Dictionary(
        uniqueKeysWithValues: ["y", "hn"].map { name in
          var comparison = parts.comparison(of: name)
          try comparison.add(name, reference: reference, measured: measured, next: next)
          return (name, comparison)
        })
    }
    let harmless = try comparisons(network("h", "hn", factors: [2, 2, -5, -5]))
    #expect(harmless["hn"]?.isState == true)
    #expect(try #require(harmless["hn"]).signalToNoise < 3)
    #expect(OutputReport("hn", try #require(harmless["hn"])).decidingFigures.isEmpty)
    #expect(harmless["y"]?.signalToNoise == .infinity)
    // The first step gives the same `y`, the second does not.
    let harmful = try comparisons(network("h", "hn", factors: [3, 2, 2, 2]))
    #expect(harmful["y"]?.worst.part == Part(isNextStep: true))
    #expect(try #require(harmful["y"]).signalToNoise < 17)
    // What a file states brings back the same parts.
    var program = float
    program.metadata.measurements = try #require(harmless["y"]).measurements(output: 0)
    #expect(JudgedParts(of: program) == parts)
  }

  /// A cache of at most two rows: the one with a free row still has a next step, the full one not.
  @Test func aFullCacheHasNoNextStep() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 2]))
    let cache = try graph.addInput(
      name: "cache", ValueType(.float32, Shape([.free("rows"), .fixed(2)])))
    let next = try graph.append(
      .concatenate(Concatenate(axis: 0)), name: "next", [cache, x], outputNames: ["cache_out"])[0]
    let table = try graph.addConstant(name: "table", Tensor([2], [0.5, 2] as [Float]))
    let squares = try graph.append(
      .reduction(Reduction(.sumOfSquares, axes: [1], keepsAxes: false)), name: "squares", [next])[0]
    let y = try graph.append(
      .binary(Binary(.add)), name: "y", [squares, table], outputNames: ["y"])[0]
    try graph.addOutput(name: "y", y)
    try graph.addOutput(name: "cache_out", next)
    let program = graph.flattened().program
    #expect(States(of: program).inputs == ["cache_out": "cache"])
    let model = try Model(program)
    func inputs(_ rows: Int) throws -> [String: Tensor] {
      [
        "x": try Tensor([1, 2], [1, 2] as [Float]),
        "cache": try Tensor(zeros: .float32, [rows, 2]),
      ]
    }
    let run = try JudgedRun(program, JudgedParts(of: program, model, on: [inputs(0)]))
    for rows in 0...1 {
      let session = Session(model)
      let results = try run(session, inputs(rows))
      let step = try run.nextStep(session, inputs(rows), reference: results, measured: results)
      #expect((step != nil) == (rows == 0))
    }
  }
}

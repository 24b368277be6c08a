import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import Testing

/// Outputs have memory of their own in a run, and lie in the arena where a run is in place.
@Suite struct SessionOutputTests {
  /// Outputs that a later step reads, that are the bytes of another, of an input, and twice the
  /// same.
  private func model() throws -> Model {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n"), 4])
    let extents = try builder.constant([-1, 2])
    let root = try builder.append(.unary(Unary(.squareRoot)), [x])
    let pairs = try builder.append(.reshape(Reshape()), [root, extents])
    let negative = try builder.append(.unary(Unary(.negate)), [pairs])
    return try Model(
      builder.program([
        "root": root, "pairs": pairs, "again": root, "negative": negative, "given": x,
      ]))
  }

  private func check(_ outputs: [String: Tensor], _ numbers: [Float]) {
    let roots = numbers.map { $0.squareRoot() }
    for name in ["root", "again", "pairs"] {
      #expect(outputs[name]?.elements(as: Float.self) == roots, "\(name)")
    }
    #expect(outputs["pairs"]?.shape == [numbers.count / 2, 2])
    #expect(outputs["negative"]?.elements(as: Float.self) == roots.map { -$0 })
    #expect(outputs["given"]?.elements(as: Float.self) == numbers)
  }

  @Test func outputsStayAsTheyWere() throws {
    let session = Session(try model())
    var runs: [([Float], [String: Tensor])] = []
    for count in [1, 3, 3, 1] {
      let numbers = (0..<4 * count).map { Float($0 * $0 + runs.count) }
      runs.append((numbers, try session.run(["x": Tensor([count, 4], numbers)])))
    }
    for (numbers, outputs) in runs { check(outputs, numbers) }
  }

  @Test func runsInPlaceAndOthersTakeTurns() throws {
    let session = Session(try model())
    let names = session.model.outputs.map(\.name)
    let numbers = (0..<8).map { Float($0) }
    try session.prepare([[2, 4]])
    for _ in 0..<2 {
      session.withInput(0) { $0.copyBytes(from: numbers.withUnsafeBytes { Array($0) }) }
      try session.runInPlace()
      check(
        try session.run(["x": Tensor([2, 4], [Float](repeating: 4, count: 8))]),
        [Float](repeating: 4, count: 8))
      try session.runInPlace()
      for (index, name) in names.enumerated() {
        let found = session.withOutput(index) { Array($0.bindMemory(to: Float.self)) }
        let roots = numbers.map { $0.squareRoot() }
        let expected =
          switch name {
          case "given": numbers
          case "negative": roots.map { -$0 }
          default: roots
          }
        #expect(found == expected, "\(name)")
      }
    }
  }
}

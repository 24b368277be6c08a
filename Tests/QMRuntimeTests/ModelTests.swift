import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct ModelTests {
  /// `y = relu(x · wᵀ)`, x `[n, 3]`, w `[2, 3]`.
  private func program() throws -> Program {
    let weights = try Tensor([2, 3], [Float(1), 2, 3, -1, -2, -3])
    let types = [
      ValueType(.float32, [.free("n"), 3]), ValueType(.float32, [2, 3]),
      ValueType(.float32, [.free("n"), 2]),
    ]
    return Program(
      values: [
        Program.Value(types[0], name: "x"), Program.Value(types[1], name: "w", constant: 0),
        Program.Value(types[2], name: "y"),
      ],
      constants: [Program.Constant(weights)],
      nodes: [
        Program.Node(
          .matrixMultiply(
            MatrixMultiply(
              rightLayout: .channelsFirst, epilogue: Epilogue(function: .relu))),
          name: "product", inputs: [0, 1], outputs: [2])
      ],
      inputs: [0], outputs: [Program.Output(name: "y", value: 2)])
  }

  @Test func runsEveryBatch() throws {
    let model = try Model(program())
    for batch in [1, 4, 2, 1, 7, 9, 4] {
      let x = try Tensor([batch, 3], (0..<batch * 3).map { Float($0) })
      let y = try #require(try model.run(["x": x])["y"])
      #expect(y.shape == [batch, 2])
      #expect(y.elements(as: Float.self)[0] == 8)
      #expect(y.elements(as: Float.self)[1] == 0)
    }
  }

  @Test func wrongInputsAreErrorsThatNameTheInput() throws {
    let model = try Model(program())
    let good = try Tensor([1, 3], [Float(1), 2, 3])
    let wrong: [[String: Tensor]] = try [
      [:], ["z": good], ["x": good, "z": good], ["x": Tensor([1, 2], [Float(1), 2])],
      ["x": Tensor([3], [Float(1), 2, 3])], ["x": Tensor([1, 3], [Int64(1), 2, 3])],
      ["x": Tensor([0, 3], [Float]())],
    ]
    for inputs in wrong {
      let error = #expect(throws: QMError.invalidInput("")) { try model.run(inputs) }
      #expect(error?.description.contains("'x'") == true)
    }
    #expect(try model.run(["x": good])["y"]?.elements(as: Float.self) == [14, 0])
  }

  @Test func concurrentRunsDoNotMix() async throws {
    let model = try Model(program())
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<8 {
        group.addTask {
          for run in 1...50 {
            let x = try Tensor([1, 3], [Float(task), Float(run), 1])
            let y = try model.run(["x": x])["y"]?.elements(as: Float.self)
            if y != [Float(task) + 2 * Float(run) + 3, 0] { return false }
          }
          return true
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }

  @Test func aFileThatIsNoModelIsRefused() throws {
    #expect(throws: QMError.cannotOpen("")) { try Model(contentsOf: "/nowhere/at/all.qm") }
    #expect(throws: QMError.malformed("")) { try Model(contentsOf: #filePath) }
  }
}

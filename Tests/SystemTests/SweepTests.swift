import NetworkSweep
import QMTensor
import QMTestSupport
import Testing

/// Networks drawn at random are read, converted, encoded and run, and the fastest kernels give the
/// bits of the reference loops. `make sweep` tries more of them, each block in its own process.
@Suite struct SweepTests {
  /// Networks of a block. A block is one test, so that blocks run in parallel.
  private static let blockSize: UInt64 = 500

  @Test(arguments: 0..<UInt64(10)) func networksDrawnAtRandom(block: UInt64) throws {
    for seed in block * Self.blockSize..<(block + 1) * Self.blockSize {
      let trial = try NetworkTrial(seed: seed)
      #expect(trial.findings.isEmpty, "seed \(seed): \(trial.network)")
    }
  }

  /// NonZero finds no element here, and an integer has no mean of nothing: such a run is refused, which
  /// is no finding.
  @Test func extentsThatTheRunDecides() throws {
    var network = ONNXNetwork(opset: 13)
    network.inputs = [("x", ValueType(.int32, [2, 3]))]
    network.nodes = [.init("NonZero", ["x"], ["places"]), .init("ReduceMean", ["places"], ["y"])]
    network.outputs = ["y"]
    let drawn = RandomNetwork(network, inputs: ["x": try Tensor(zeros: .int32, [2, 3])])
    let trial = try NetworkTrial(drawn, seed: 0)
    guard case .notRun = trial.outcome else {
      Issue.record("\(trial.outcome)")
      return
    }
    #expect(trial.findings.isEmpty)
  }
}

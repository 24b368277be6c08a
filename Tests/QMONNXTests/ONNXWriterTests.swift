import Foundation
import QMGraph
import QMNumPy
import QMONNX
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct ONNXWriterTests {
  /// Each network of fixtures/onnx, written and read again, gives the same bits.
  @Test(arguments: Fixtures.cases(in: Fixtures.folder))
  func aWrittenNetworkComputesTheSame(name: String) throws {
    let folder = Fixtures.folder.appending(path: name)
    let graph = try ONNXReader.read(path: folder.appending(path: "model.onnx").path)
    let fused = try DefaultPasses.run(on: graph)
    let program = fused.flattened().program
    let raised = try program.raised(.codes).graph
    let written = try ONNXWriter.encode(raised, producer: "test", version: "1").bytes
    let again = try DefaultPasses.run(on: ONNXReader.read(bytes: written)).flattened().program

    let inputs = try inputs(in: folder)
    let expected = try Model(program).run(inputs)
    let outputs = try Model(again).run(inputs)
    #expect(Set(outputs.keys) == Set(expected.keys))
    for (output, tensor) in expected {
      let found = try #require(outputs[output])
      #expect(found.isIdentical(to: tensor), "\(output): \(found), expected \(tensor)")
    }
  }

  /// What one operator of the written version cannot say takes several, which give the same bits.
  @Test func operationsWithoutAnOperatorComputeTheSame() throws {
    let x = try Tensor([1, 3, 4, 6], (0..<72).map { Float($0 * 7 % 31) - 15 })
    let operations: [QMOperations.Operation] = [
      .spaceToDepth(SpaceToDepth(block: 2, channelsComeFirst: true, order: .channelsFirst)),
      .spaceToDepth(SpaceToDepth(block: 1, channelsComeFirst: true, order: .channelsFirst)),
      .reduction(Reduction(.norm, axes: [], keepsAxes: false)),
      .reduction(Reduction(.sumOfSquares, axes: [], keepsAxes: true)),
    ]
    for operation in operations {
      var graph = Graph()
      let input = try graph.addInput(name: "x", ValueType(.float32, [1, 3, 4, 6]))
      let output = try graph.append(operation, name: "node", [input])[0]
      try graph.addOutput(name: "y", output)
      let bytes = try ONNXWriter.encode(graph, producer: "test", version: "1").bytes
      let again = try ONNXReader.read(bytes: bytes).flattened().program
      let expected = try #require(Model(graph.flattened().program).run(["x": x])["y"])
      let found = try #require(Model(again).run(["x": x])["y"])
      #expect(found.isIdentical(to: expected), "\(operation): \(found), expected \(expected)")
    }
  }

  /// A policy gives all axes one scale, and the extents that follow from it.
  @Test(arguments: [([7, 9], [1.75, 1.5]), ([7, 10], [1.75, 1.75])] as [([Int64], [Float])])
  func otherScalesOfCoordinatesAreRefused(extents: [Int64], scales: [Float]) throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 1, 4, 6]))
    let y = try graph.append(
      .resize(Resize(.linear, .halfPixel, axes: [2, 3])), name: "node",
      [
        x, graph.addConstant(name: "sizes", Tensor([2], extents)), nil,
        graph.addConstant(name: "scales", Tensor([2], scales)),
      ])[0]
    try graph.addOutput(name: "y", y)
    let error = #expect(throws: QMError.self) {
      try ONNXWriter.encode(graph, producer: "test", version: "1")
    }
    #expect(error?.code == .unsupported)
  }

  @Test(arguments: Fixtures.cases(in: Fixtures.folder))
  func equalGraphsGiveEqualBytes(name: String) throws {
    let path = Fixtures.folder.appending(path: name).appending(path: "model.onnx").path
    let first = try written(path)
    #expect(try written(path) == first)
  }

  private func written(_ path: String) throws -> [UInt8] {
    let program = try DefaultPasses.run(on: ONNXReader.read(path: path)).flattened().program
    let buffer = try ONNXWriter.encode(
      program.raised(.codes).graph, producer: "test", version: "1"
    ).bytes
    return withExtendedLifetime(buffer) { Array(buffer.bytes) }
  }

  private func inputs(in folder: URL) throws -> [String: Tensor] {
    let arrays = try NPZArchive(path: folder.appending(path: "io.npz").path)
    var inputs: [String: Tensor] = [:]
    for entry in arrays.names where entry.hasPrefix("in:") {
      inputs[String(entry.dropFirst(3))] = try arrays.tensor(named: entry)
    }
    return inputs
  }
}

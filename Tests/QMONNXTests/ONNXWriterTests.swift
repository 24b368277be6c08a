import Foundation
import QMGraph
import QMNumPy
import QMONNX
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct ONNXWriterTests {
  /// Each network of fixtures/onnx, written and read again, gives the same bits.
  @Test(arguments: Fixtures.cases(in: Fixtures.folder).filter { !isRefused($0) })
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

  /// What one ONNX operator of the written version cannot say.
  private static func isRefused(_ name: String) -> Bool {
    name == "reduce_nothing" || name.hasPrefix("resize_not_")
  }

  @Test(arguments: Fixtures.cases(in: Fixtures.folder).filter(isRefused))
  func whatONNXCannotSayIsRefused(name: String) throws {
    let path = Fixtures.folder.appending(path: name).appending(path: "model.onnx").path
    #expect(throws: QMError.self) { try written(path) }
  }

  @Test(arguments: Fixtures.cases(in: Fixtures.folder).filter { !isRefused($0) })
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

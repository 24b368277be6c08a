import Foundation
import QMGraph
import QMNumPy
import QMONNX
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// 2,000 networks of the sweep's generator with what ONNX Runtime computes for them
/// (`fixtures/generate/sweep.py`).
@Suite struct RecordedNetworksTests {
  /// A network of the archive.
  private struct Recorded {
    let seed: Int
    let model: Buffer
    /// How much of the largest number of a float output its numbers may differ by.
    let tolerance: Float
    let inputs: [Tensor]
    let outputs: [Tensor]
  }

  /// Networks with other results here, by the case in `schema/onnx.md` that says why.
  private static let differences: [String: Set<Int>] = [
    "averagepool_same_dilated": [7308],
    "cast_beyond_the_type": [66, 1317],
    "maximum_with_nan": [2501],
    "mean_of_nothing": [1733, 1893],
    "mean_variance_of_equal": [1754],
    "nonzero_of_scalar": [1371],
    "slice_back_from_the_largest": [195],
    "squeeze_no_axes": [361, 553, 688, 1123, 1482, 2130, 2434],
  ]

  @Test func networksGiveWhatONNXRuntimeGives() throws {
    let table = try String(
      contentsOf: URL(filePath: Fixtures.path("../schema/onnx.md")), encoding: .utf8)
    var expected: Set<Int> = []
    for (name, seeds) in RecordedNetworksTests.differences {
      #expect(table.contains("| \(name) |"))
      expected.formUnion(seeds)
    }
    let networks = try RecordedNetworksTests.networks()
    #expect(networks.count == 2000)
    for recorded in networks {
      let difference = try difference(of: recorded)
      #expect(
        (difference != nil) == expected.contains(recorded.seed),
        "network \(recorded.seed): \(difference ?? "no difference")")
    }
  }

  /// The first difference between the outputs of a network and the recorded ones.
  private func difference(of recorded: Recorded) throws -> String? {
    let graph = try ONNXReader.read(bytes: recorded.model)
    let model = try Model(DefaultPasses.run(on: graph).flattened().program)
    let inputs = zip(model.inputs, recorded.inputs).map { ($0.name, $1) }
    let results = try model.run(Dictionary(uniqueKeysWithValues: inputs))
    #expect(model.outputs.count == recorded.outputs.count)
    for (output, expected) in zip(model.outputs, recorded.outputs) {
      let found = try #require(results[output.name])
      if let difference = try difference(found, expected, recorded.tolerance) { return difference }
    }
    return nil
  }

  /// The outputs' types are not declared, so that any float type is float32 here.
  private func difference(
    _ found: Tensor, _ expected: Tensor, _ tolerance: Float
  ) throws -> String? {
    guard found.elementType == .float32, expected.elementType.isFloatingPoint else {
      return firstDifference(found, expected)
    }
    guard found.shape == expected.shape else { return "found \(found), expected \(expected)" }
    let left = found.elements(as: Float.self)
    let right = try expected.converted(to: .float32).elements(as: Float.self)
    let bound = tolerance * max(right.filter(\.isFinite).map(abs).max() ?? 0, 1)
    for (left, right) in zip(left, right) {
      guard left == right || left.isNaN && right.isNaN || abs(left - right) <= bound else {
        return "found \(left), expected \(right)"
      }
    }
    return nil
  }

  // MARK: The archive

  private static func networks() throws -> [Recorded] {
    let archive = try NPZArchive(path: Fixtures.path("sweep/values.npz"))
    func numbers<Element: TensorElement & BinaryInteger>(_ name: String, _: Element.Type) throws
      -> [Int]
    {
      try archive.tensor(named: name).elements(as: Element.self).map { Int($0) }
    }
    let seeds = try numbers("seeds", UInt64.self)
    let sizes = try numbers("model_sizes", UInt32.self)
    let tolerances = try archive.tensor(named: "tolerances").elements(as: Float.self)
    let inputs = try numbers("inputs", UInt8.self)
    let outputs = try numbers("outputs", UInt8.self)
    let models = try archive.tensor(named: "models")
    var modelStart = 0
    var tensors = try recordedTensors(in: archive)[...]
    return try seeds.indices.map { index in
      let bytes = models.bytes[modelStart..<modelStart + sizes[index]]
      modelStart += sizes[index]
      let own = tensors.prefix(inputs[index] + outputs[index])
      tensors = tensors.dropFirst(own.count)
      return Recorded(
        seed: seeds[index], model: try .copying(.init(rebasing: bytes)),
        tolerance: tolerances[index], inputs: Array(own.prefix(inputs[index])),
        outputs: Array(own.dropFirst(inputs[index])))
    }
  }

  /// The inputs and outputs of all networks, one after another.
  private static func recordedTensors(in archive: NPZArchive) throws -> [Tensor] {
    let elementTypes = Dictionary(
      uniqueKeysWithValues: ElementType.allCases.map { ($0.onnxNumber, $0) })
    let ranks = try archive.tensor(named: "ranks").elements(as: UInt8.self)
    var extents = try archive.tensor(named: "extents").elements(as: UInt16.self).map { Int($0) }[
      ...]
    let values = try archive.tensor(named: "values")
    var start = 0
    return try archive.tensor(named: "types").elements(as: UInt8.self).enumerated().map {
      position, number in
      let type = try #require(elementTypes[Int(number)])
      let shape = Array(extents.prefix(Int(ranks[position])))
      extents = extents.dropFirst(shape.count)
      let end = start + (try Tensor.byteCount(of: type, shape))
      defer { start = end }
      return try Tensor(
        type, shape, buffer: .copying(.init(rebasing: values.bytes[start..<end])))
    }
  }
}

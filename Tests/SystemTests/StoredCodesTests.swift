import Foundation
import QMGraph
import QMNumPy
import QMONNX
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Codes that a network's file holds, of weights and of activations, are the same at every width,
/// with and without samples.
@Suite struct StoredCodesTests {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "fixtures/onnx")

  /// Networks that hold codes and no other weights.
  static let names =
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter { name in
      ["stored_", "quantize_", "codes_", "form_"].contains { name.hasPrefix($0) }
    }.sorted()

  @Test(arguments: names, [2, 4, 8]) func areKept(name: String, bits: Int) throws {
    let folder = Self.folder.appending(path: name)
    let graph = try ONNXReader.read(path: folder.appending(path: "model.onnx").path)
    let arrays = try NPZArchive(path: folder.appending(path: "io.npz").path)
    var inputs: [String: Tensor] = [:]
    for name in arrays.names where name.hasPrefix("in:") {
      inputs[String(name.dropFirst(3))] = try arrays.tensor(named: name)
    }
    let exact = try Model(graph.flattened().program).run(inputs)
    // A network whose file quantizes only weights is given float activations.
    let recipe = Recipe(
      weights: .codes(Double(bits)), activations: graph.isQuantized ? nil : .float)
    for samples in [nil, TensorSamples([inputs])] {
      let conversion = try Converter(recipe: recipe).convert(graph, samples: samples)
      let outputs = try Model(conversion.program).run(inputs)
      for (name, expected) in exact {
        let output = try #require(outputs[name])
        #expect(output.elementType == expected.elementType)
        let (numbers, right) = try (
          output.converted(to: .float32).elements(as: Float.self),
          expected.converted(to: .float32).elements(as: Float.self)
        )
        let largest = right.map(abs).max() ?? 0
        for (number, right) in zip(numbers, right) {
          #expect(abs(number - right) <= 1e-5 * largest, "\(name)")
        }
      }
    }
  }

  /// uint8 weights with zero points other than 128 are codes of a product, and a multiple of a sum.
  @Test(arguments: [
    "matmulinteger_zero_point", "dynamicquantizematmul_zero_points", "qlinearmatmul_zero_points",
  ])
  func otherZeroPointsOfProductsKeepCodes(name: String) throws {
    let path = Self.folder.appending(path: "form_\(name)/model.onnx").path
    let conversion = try Converter(recipe: Recipe(weights: .codes(8)))
      .convert(ONNXReader.read(path: path))
    #expect(!conversion.plan.weights.isEmpty)
  }

  /// int8 codes without a zero point cannot hold these weights.
  @Test func weightsThatNoCodesHoldStayFloat() throws {
    for (name, isFloat) in [("wide_zero_point", true), ("zero_points", false)] {
      let path = Self.folder.appending(path: "stored_\(name)/model.onnx").path
      let conversion = try Converter(recipe: Recipe(weights: .codes(8)))
        .convert(ONNXReader.read(path: path))
      #expect(conversion.plan.weights.isEmpty == isFloat)
    }
  }
}

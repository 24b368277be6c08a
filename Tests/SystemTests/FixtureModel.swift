import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// A network of `fixtures/models` with its samples.
struct FixtureModel: Sendable, CustomTestStringConvertible {
  let name: String

  static let all = ["digits_mlp", "digits_cnn", "ppocr_cls"].map(FixtureModel.init(name:))

  var testDescription: String { name }
  var path: String {
    let tests = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
    return "/" + tests.dropLast("/Tests".count) + "/fixtures/models/" + name
  }

  func graph() throws -> Graph { try ONNXReader.read(path: path + "/model.onnx") }

  /// The samples of a folder, the first `limit` of them.
  func samples(_ folder: String, limit: Int = .max) throws -> SampleSubset {
    let graph = try graph()
    let inputs = graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) }
    let samples = try SampleFolder(path: path + "/" + folder, inputs: inputs)
    return SampleSubset(of: samples, Array(0..<min(samples.count, limit)))
  }

  /// The converted network, with calibrated or dynamic ranges of activations.
  func conversion(
    bits: Int, activations: Recipe.Activations = .int8, options: Model.Options = Model.Options()
  ) throws -> Conversion {
    guard let width = BitWidth(bits) else { throw QMError.usage("\(bits) bits") }
    return try Converter(
      recipe: Recipe(weights: .codes(Double(width.bits)), activations: activations),
      options: options
    )
    .convert(graph(), samples: samples("calib", limit: 8))
  }

  /// The first sample with a little noise. Without noise, a single rounding would count many times
  /// on a plain background, whose elements are all equal.
  func noisyInputs() throws -> [String: Tensor] {
    var generator = SeededGenerator(seed: 17)
    return try samples("calib", limit: 1).inputs(of: 0).mapValues { tensor in
      let elements = tensor.elements(as: Float.self)
      let width = (elements.map(abs).max() ?? 0) / 16
      return try Tensor(
        tensor.shape, elements.map { $0 + Float.random(in: -width...width, using: &generator) })
    }
  }
}

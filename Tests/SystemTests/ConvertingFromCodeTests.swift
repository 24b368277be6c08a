import Foundation
import QMFormat
import QMNumPy
import QMONNX
import QMQuantization
import QMReport
import QMTensor
import Testing

/// The code in the article on converting from code compiles and runs.
@Suite struct ConvertingFromCodeTests {
  private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  @Test func theArticlesCodeRuns() throws {
    let network = root.appendingPathComponent("fixtures/models/digits_mlp")
    let work = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: work, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: work) }
    let output = work.appendingPathComponent("out.qm").path
    try convert(network.path + "/model.onnx", network.path + "/calib", output)
    #expect(try Program(contentsOf: output).outputs.map(\.name) == ["y"])
  }

  private func convert(_ source: String, _ folder: String, _ output: String) throws {
    let graph = try ONNXReader.read(path: source)
    let inputs = graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) }
    let samples = try SampleFolder(path: folder, inputs: inputs)

    let recipe = Recipe(weights: .codes(4))
    let conversion = try Converter(recipe: recipe).convert(graph, samples: samples)
    for output in conversion.outputReports {
      print(output.name, output.signalToNoiseDecibels, "dB")
    }
    try AtomicFile.write(conversion.program.encoded(), to: output)

    let prepared = try Converter(recipe: recipe).prepare(graph, samples: samples)
    var trials = try BudgetTrials(prepared, recipe: recipe)
    let largest = try trials.mostBits(within: 12_000)
    try AtomicFile.write(largest.file, to: output)
  }

  /// Compares line by line, with the paths replaced.
  @Test func theArticleHasThisCode() throws {
    let article = root.appendingPathComponent(
      "Sources/QMQuantization/QMQuantization.docc/ConvertingFromCode.md")
    let text = try String(contentsOf: article, encoding: .utf8)
      .replacing("\"in.onnx\"", with: "source").replacing("\"calib\"", with: "folder")
      .replacing("\"out.qm\"", with: "output")
    let blocks = text.split(separator: "```swift\n").dropFirst()
    #expect(blocks.count == 2)
    let code = try String(contentsOf: URL(fileURLWithPath: #filePath), encoding: .utf8)
    for block in blocks {
      for line in try #require(block.split(separator: "```").first).split(separator: "\n") {
        #expect(code.contains("    \(line)\n"), "\(line)")
      }
    }
  }
}

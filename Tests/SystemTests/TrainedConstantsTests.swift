import Foundation
import QMGraph
import QMONNX
import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// Constants that training changed go back into the network that they came from.
@Suite struct TrainedConstantsTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "fixtures")

  /// Readable networks of `fixtures/onnx` and `fixtures/models`.
  private static let paths: [String] = ["onnx", "models"].flatMap { folder in
    let folder = root.appending(path: folder)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.sorted().map { folder.appending(path: "\($0)/model.onnx").path }
      .filter { (try? ONNXReader.read(path: $0)) != nil }
  }

  @Test func theReaderTakesThemAsItGaveThem() throws {
    var moved = 0
    for path in Self.paths {
      var graph = try ONNXReader.read(path: path)
      try graph.makeTrainable()
      var changes = ONNXChanges()
      var changed: [String: [Float]] = [:]
      for id in graph.parameters {
        let value = graph[id]
        let constant = try #require(value.constant)
        let numbers = constant.elements(as: Float.self).enumerated().map { place, number in
          number + Float(place % 7 + 1) / 8
        }
        let inFile = try value.inFile(Tensor(constant.shape, numbers))
        if !value.steps.isEmpty { moved += 1 }
        changes.weights[value.name] = inFile
        changed[value.name] = numbers
      }
      let again: Graph
      do throws(QMError) {
        again = try ONNXReader.read(path: path, changes: changes)
      } catch {
        // Constants that the reader makes itself have no name in the file.
        #expect(error.message.hasPrefix("no constant has the name"), "\(path): \(error)")
        continue
      }
      for (name, numbers) in changed {
        let value = try #require(
          again.values.first { $0.name == name && $0.constant != nil }, "\(path): \(name)")
        let found = try #require(value.constant).elements(as: Float.self)
        #expect(
          // bfloat16 has 8 bits; elements at other places differ by an eighth and more.
          zip(found, numbers).allSatisfy { abs($0 - $1) <= 0.01 * max(1, abs($1)) }
            && found.count == numbers.count, "\(path): \(name)")
      }
    }
    #expect(moved >= 12)
  }
}

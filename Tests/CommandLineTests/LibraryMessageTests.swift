import Foundation
import Testing

@Suite("Messages of the libraries") struct LibraryMessageTests {
  /// A library is called from Swift, C and Python too: what to do is a `Remedy`, which the tools
  /// turn into options.
  @Test func noneNamesAnOptionOfTheTools() throws {
    let sources = Fixture.root.appendingPathComponent("Sources")
    let libraries = try FileManager.default.contentsOfDirectory(atPath: sources.path)
      .filter { $0.hasPrefix("QM") && $0 != "QMCommands" }
    #expect(libraries.count > 5)
    for library in libraries {
      let folder = sources.appendingPathComponent(library)
      let files = try #require(FileManager.default.enumerator(atPath: folder.path))
      for case let file as String in files where file.hasSuffix(".swift") {
        let text = try String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)
        for line in text.split(separator: "\n")
        where !line.drop(while: { $0 == " " }).hasPrefix("//") {
          #expect(!line.contains(/"[^"]*--[a-z]/), "\(library)/\(file): \(line)")
        }
      }
    }
  }

  /// The remedy of a value reaches the terminal as the option that does it.
  @Test func theToolsNameTheirOptions() throws {
    let folder = try Folder()
    let file = Fixture.root.appendingPathComponent(
      "fixtures/onnx/reject/unknown_operator/model.onnx"
    ).path
    let refused = try Tool.qconvert(file, folder.path("o.qm"))
    #expect(refused.status == 65)
    #expect(
      refused.errors.hasSuffix(
        "unsupported operator; cut the graph before it with --output\n"), "\(refused.errors)")
    let misspelt = try Tool.qconvert(Fixture.model, folder.path("o.qm"), "--keep-float", "no such")
    #expect(misspelt.status == 64)
    #expect(misspelt.errors.contains("; --explain lists"), "\(misspelt.errors)")
  }
}

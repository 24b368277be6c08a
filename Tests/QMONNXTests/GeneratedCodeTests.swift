import Foundation
import Testing

@Suite struct GeneratedCodeTests {
  private static let compiler = ["/usr/bin/protoc-c", "/usr/local/bin/protoc-c"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  @Test(.enabled(if: compiler != nil, "needs protoc-c (Debian: protobuf-c-compiler)"))
  func isCurrent() throws {
    let check = Process()
    check.executableURL = Fixtures.root.appending(path: "schema/generate.sh")
    check.arguments = ["--check"]
    try check.run()
    check.waitUntilExit()
    #expect(check.terminationStatus == 0, "run schema/generate.sh and commit the result")
  }
}

import Foundation
import QMFormat
import Testing

/// `schema/arithmetic.md` names what there is, and only that.
@Suite struct ArithmeticDocumentTests {
  private static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  private static let sources = root.appending(path: "Sources/QMOperations")

  private let lines: [Substring]

  init() throws {
    let text = try String(
      contentsOf: Self.root.appending(path: "schema/arithmetic.md"), encoding: .utf8)
    lines = text.split(separator: "\n")
  }

  private static func source(_ path: String) throws -> String {
    try String(contentsOf: sources.appending(path: path), encoding: .utf8)
  }

  @Test(arguments: Opcode.allCases) func everyOperationHasASection(opcode: Opcode) {
    let name = "\(opcode)"
    #expect(lines.contains("### \(name.prefix(1).uppercased())\(name.dropFirst())"))
  }

  @Test func equationsAreNumberedAndListedWithFunctionsThatExist() throws {
    // An equation keeps its number, so that a later one may stand before it.
    let equations = lines.compactMap { $0.firstMatch(of: /^ {4}\((\d+)\)\s/)?.1 }
      .compactMap { Int($0) }.sorted()
    #expect(!equations.isEmpty && equations == Array(1...equations.count))

    let rows = lines.compactMap {
      $0.firstMatch(of: /^\| \((\d+)\) \| [^|]+ \| `(\w+)` \| `([\w\/+]+\.swift)` \|$/)
    }
    #expect(rows.compactMap { Int($0.1) } == equations)
    for row in rows {
      let declaration = try Regex("(func|struct|init|var|let) `?\(row.2)\\b")
      #expect(try Self.source("\(row.3)").contains(declaration), "(\(row.1)) \(row.2)")
    }
    for name in lines.flatMap({ $0.matches(of: /\((\d+)\)/) }).compactMap({ Int($0.1) }) {
      #expect((1...equations.count).contains(name), "equation (\(name)) is none")
    }
  }

  /// Hexadecimal numbers, floats or integers, without regard to case and underscores.
  private static func constants(_ text: some StringProtocol) -> Set<String> {
    Set(
      String(text).matches(of: /0[xX][0-9A-Fa-f_]+(\.[0-9A-Fa-f]+)?(p[+-]?[0-9]+)?/).map {
        $0.0.lowercased().filter { $0 != "_" }
      })
  }

  @Test func constantsAreThoseOfTheFunctions() throws {
    let code = try Self.source("Functions.swift").split(separator: "\n")
      .filter { !$0.contains("//") }.joined(separator: "\n")
    let expected = Self.constants(code)
    let found = Self.constants(lines.joined(separator: "\n"))
    // The sign bit, which the text calls by its name.
    #expect(expected.symmetricDifference(found) == ["0x80000000"])
  }
}

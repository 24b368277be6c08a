import Foundation
import QMFormat
import QMTensor
import Testing

/// Files that another writer made from the text of the format (`fixtures/generate/make_qm.py`).
struct FixtureTests {
  private static let folder = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(components: "fixtures", "qm")

  private static func files(_ name: String) throws -> [String] {
    let names = try FileManager.default.contentsOfDirectory(
      atPath: folder.appending(component: name).path)
    return names.filter { $0.hasSuffix(".qm") }.sorted()
  }

  private func program(_ path: String) throws -> Program {
    let path = Self.folder.appending(path: path).path
    let program = try Program(contentsOf: path)
    try within(.file(path)) { () throws(QMError) in _ = try QMFile(path: path).probes() }
    return program
  }

  @Test(arguments: try files("accept"))
  func `A file to accept is read, and means the same when it is written again`(name: String) throws
  {
    let program = try program("accept/\(name)")
    try Container(path: Self.folder.appending(path: "accept/\(name)").path).checkDigest()
    #expect(try Program(decoding: buffer(program.encoded())) == program)
  }

  @Test(arguments: try files("reject"))
  func `A file to reject is rejected in one line that names it`(name: String) throws {
    do {
      _ = try program("reject/\(name)")
      Issue.record("accepted")
    } catch let error as QMError {
      #expect(
        error.code
          == (name.contains("later_reader") || name.contains("earlier") ? .unsupported : .malformed)
      )
      #expect(error.description.contains(name) && !error.description.contains("\n"))
    }
  }

  @Test func `Every layout holds the same numbers`() throws {
    let program = try program("accept/layouts.qm")
    let codes = (0..<23).map { Int8($0 * 7 % 3 - 1) }
    #expect(program.constants.count == 13)
    for constant in program.constants {
      if constant.tensor.elementType == .int8 {
        #expect(constant.tensor.elements() == codes)
      } else if constant.tensor.elementType == .int32 {
        #expect(constant.tensor.elements() == codes.map(Int32.init))
      } else {
        #expect(constant.tensor.elements() == codes.map(Float.init))
      }
    }
  }

  @Test func `Names, metadata and operands are where they belong`() throws {
    let named = try program("accept/names_and_metadata.qm")
    #expect(named.values.map(\.name) == ["x", "y inside"] && named.nodes[0].name == "node")
    #expect(named.metadata.measurements[0].value == .infinity)
    #expect(named.metadata.notes == [.init(.move, reason: "moves only")])
    let product = try program("accept/product.qm")
    #expect(product.nodes[0].inputs == [0, 1, 2, 3] && product.nodes[0].outputs == [4])
    #expect(product.values[4].type.shape == [.free("batch"), 2])
    let moved = try program("accept/repeated_scale.qm")
    #expect(moved.values[1].type == moved.values[0].type)
  }
}

import Foundation
import Testing

@Suite("Arrays without a network")
struct CheckpointTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  /// An archive with one array of floats.
  private func archive() throws -> String {
    let (array, file, archive) = (folder.path("m.npy"), folder.path("m.qm"), folder.path("m.npz"))
    try writeMatrix(to: array)
    #expect(try Tool.qconvert(array, file, "--bits", "32").status == 0)
    #expect(try Tool.qrun(file, "--output", archive).status == 0)
    for path in [array, file] { try FileManager.default.removeItem(atPath: path) }
    return archive
  }

  @Test(arguments: ["8", "4", "2", "32"]) func anArchiveGoesAndComesBack(bits: String) throws {
    let (archive, file) = (try archive(), folder.path("w.qm"))
    let made = try Tool.qconvert(archive, file, "--bits", bits, "--json")
    try #require(made.status == 0, "\(made.errors)")
    #expect(try (made.json["arrays"] as? [Any])?.isEmpty == false)
    #expect(try Tool.qverify(file).status == 0)
    let verified = try Tool.qverify(file, archive, "--json")
    #expect(verified.status == 0, "\(verified.errors)")
    #expect(try verified.json["passed"] as? Bool == true)

    // What comes back is what the file holds: it verifies without a difference.
    let unpacked = try Tool.qrun(file, "--output", folder.path("w.npz"))
    #expect(unpacked.status == 0, "\(unpacked.errors)")
    let again = try Tool.qconvert(folder.path("w.npz"), folder.path("again.qm"), "--bits", "32")
    #expect(again.status == 0, "\(again.errors)")
    let same = try Tool.qverify(folder.path("again.qm"), folder.path("w.npz"))
    #expect(same.status == 0, "\(same.errors)")
  }

  @Test func aSingleArrayIsAnArchiveOfOne() throws {
    let (array, file) = (folder.path("m.npy"), folder.path("a.qm"))
    try writeMatrix(to: array)
    #expect(try Tool.qconvert(array, file).status == 0)
    #expect(try Tool.qverify(file, array).status == 0)
  }

  @Test func otherArraysAreADifference() throws {
    let (archive, file) = (try archive(), folder.path("w.qm"))
    let other = Fixture.root.appendingPathComponent("fixtures/npz/one_array_of_zeros.npz").path
    #expect(try Tool.qconvert(archive, file).status == 0)
    #expect(try Tool.qverify(file, other).status == 1)
  }

  @Test func qualityThatIsAskedForIsKept() throws {
    let matrix = folder.path("m.npy")
    try writeMatrix(to: matrix)
    let file = folder.path("m.qm")
    let refused = try Tool.qconvert(matrix, file, "--bits", "2", "--min-sqnr", "30")
    #expect(refused.status == 2, "\(refused.errors)")
    #expect(try folder.names == ["m.npy"])
    #expect(try Tool.qconvert(matrix, file, "--bits", "2").status == 0)
    #expect(try Tool.qverify(file, matrix).status == 0)
    #expect(try Tool.qverify(file, matrix, "--tolerance", "30").status == 1)
  }

  @Test func whatOnlyNetworksHaveIsAUsageError() throws {
    let (archive, file) = (try archive(), folder.path("w.qm"))
    #expect(
      try Tool.qconvert(archive, file, "--samples", Fixture.calibration).status == 64)
    #expect(try Tool.qconvert(archive, file).status == 0)
    #expect(try Tool.qrun(file, "--output", folder.path("folder")).status == 64)
    #expect(try Tool.qrun(file, "--output", file).status == 64)
    #expect(try folder.names == ["m.npz", "w.qm"])
  }

  /// 16 × 16 float32 numbers without a pattern.
  private func writeMatrix(to path: String) throws {
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (16, 16), }"
    let header = text + String(repeating: " ", count: 117 - text.utf8.count) + "\n"
    var bytes = Data([0x93]) + Data("NUMPY".utf8) + Data([1, 0, UInt8(header.utf8.count), 0])
    bytes += Data(header.utf8)
    var state: UInt32 = 1
    for _ in 0..<256 {
      state = state &* 1_664_525 &+ 1_013_904_223
      let number = Float(state >> 8) * 0x1p-23 - 1
      withUnsafeBytes(of: number) { bytes.append(contentsOf: $0) }
    }
    try bytes.write(to: URL(fileURLWithPath: path))
  }
}

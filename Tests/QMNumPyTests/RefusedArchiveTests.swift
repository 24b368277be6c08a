import QMNumPy
import QMTensor
import QMTestSupport
import Testing

/// Archives that must be refused although other readers take them without a word: they are made in
/// memory, so that no file of this kind lies about.
@Suite struct RefusedArchiveTests {
  private typealias Entry = TestArchive.Entry

  private let array: [UInt8]
  private let one: Entry
  private let deflated: Entry

  init() throws {
    array = try NPY.encode(Tensor([2, 3], (0..<6).map { Float($0) }))
    one = Entry("a.npy", array)
    deflated = Entry("a.npy", array, isDeflated: true)
  }

  private func expectRefusal(
    _ bytes: [UInt8], _ code: QMError.Code = .malformed,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let buffer = try Tensor([bytes.count], bytes).buffer
    let error = #expect(throws: QMError.self, sourceLocation: sourceLocation) {
      let archive = try NPZArchive(bytes: buffer)
      for name in archive.names { _ = try archive.tensor(named: name) }
    }
    #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
  }

  private func expectRefusal(
    _ entries: Entry..., code: QMError.Code = .malformed,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    var archive = TestArchive()
    archive.entries = entries
    try expectRefusal(archive.bytes, code, sourceLocation: sourceLocation)
  }

  @Test func theArchiveItselfIsRead() throws {
    for entry in [one, deflated] {
      let bytes = TestArchive(entry).bytes
      let archive = try NPZArchive(bytes: Tensor([bytes.count], bytes).buffer)
      #expect(try archive.tensor(named: "a").elements(as: Float.self) == [0, 1, 2, 3, 4, 5])
    }
  }

  @Test func namesThatMeanNothingOrTwoThings() throws {
    try expectRefusal(Entry(".npy", array))
    try expectRefusal(Entry("", array))
    try expectRefusal(Entry("a\0b.npy", array))
    try expectRefusal(Entry("../a.npy", array))
    try expectRefusal(one, one)
    try expectRefusal(one, Entry("a", array))
    try expectRefusal(one.with { $0.name = [0xff, 0xfe] + Array(".npy".utf8) }, code: .unsupported)
  }

  @Test func aLocalHeaderThatDiffers() throws {
    try expectRefusal(one.setting(\.local.method, 8))
    try expectRefusal(one.setting(\.local.byteCount, array.count - 1))
    try expectRefusal(one.setting(\.local.checksum, 1))
    try expectRefusal(one.setting(\.local.flags, 1))
  }

  @Test func sizesThatAreNot() throws {
    let all = Int(UInt32.max)
    try expectRefusal(one.with { $0.byteCount += 1 })
    try expectRefusal(one.with { ($0.byteCount, $0.storedByteCount) = (1 << 30, 1 << 30) })
    try expectRefusal(deflated.with { $0.byteCount += 1 })
    try expectRefusal(deflated.with { $0.byteCount = 1 << 30 })
    let wide = one.with { ($0.byteCount, $0.storedByteCount) = (all, all) }
    try expectRefusal(wide)
    try expectRefusal(
      wide.setting(
        \.extra, little(1, 2) + little(16, 2) + little(.min, 8) + little(.min, 8)))
    var trailing = deflated.setting(\.data, deflated.data + [0, 0])
    trailing = trailing.with { $0.storedByteCount += 2 }
    try expectRefusal(trailing)
  }

  @Test func aDescriptorThatDisagrees() throws {
    var deferred = deflated.with { $0.flags = 8 }
    (deferred.local.checksum, deferred.local.byteCount, deferred.local.storedByteCount) = (0, 0, 0)
    try expectRefusal(deferred)
    try expectRefusal(
      deferred.setting(
        \.after, little(0x0807_4b50, 4) + little(1, 4) + little(2, 4) + little(3, 4)))
  }

  @Test func entriesInPlacesWhereTheyCannotBe() throws {
    let inner = TestArchive(Entry("c.npy", array)).bytes
    let outer = Entry("b.npy", Array(inner.prefix(35 + array.count)))
    let start = 35 + array.count + 35
    try expectRefusal(one, outer, Entry("c.npy", array).setting(\.offset, start))
    try expectRefusal(one.setting(\.disk, 3), code: .unsupported)
  }

  @Test func endRecordsThatAreWrong() throws {
    var archive = TestArchive(one, Entry("b.npy", array))
    for count in [1, 60_000] {
      archive.count = count
      try expectRefusal(archive.bytes)
    }
    archive.count = nil
    archive.zip64Place = 1 << 40
    try expectRefusal(archive.bytes)
    archive.zip64Place = nil
    archive.disk = 1
    try expectRefusal(archive.bytes, .unsupported)
    archive.disk = 0
    try expectRefusal(archive.bytes + [0])
    try expectRefusal(Array("#!/bin/sh\n".utf8) + archive.bytes)
    try expectRefusal(array)
  }

  @Test func contentThatIsNoArray() throws {
    try expectRefusal()
    try expectRefusal(Entry("README", Array("hello".utf8)))
    try expectRefusal(Entry("a.npy", TestArchive(one).bytes))
    try expectRefusal(Entry("a.npy", array + [0]))
    try expectRefusal(Entry("a.npy", npy("|O", "()", [0x80, 4, 0x4e, 0x2e])), code: .unsupported)
  }
}

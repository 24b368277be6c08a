import Foundation
import QMTensor
import QMTestSupport
import Testing

@Suite struct AtomicFileTests {
  private func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  private func bytes(_ path: String) throws -> [UInt8] {
    try Array(Data(contentsOf: URL(filePath: path)))
  }

  private func permissions(_ path: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    return try #require((attributes[.posixPermissions] as? NSNumber)?.intValue)
  }

  @Test func appearsOnlyWhenCommitted() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/out"
      do {
        var file = try AtomicFile(path: path)
        try file.write([1, 2])
        #expect(!FileManager.default.fileExists(atPath: path))
        try file.write([3])
        try file.commit()
      }
      #expect(try bytes(path) == [1, 2, 3])
      try AtomicFile.write([], to: path)
      #expect(try bytes(path) == [])
      #expect(try names(folder) == ["out"])
    }
  }

  @Test func leavesTheOldFileAndNothingElseWhenAbandoned() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/out"
      try AtomicFile.write([7], to: path)
      do {
        var file = try AtomicFile(path: path)
        try file.write([1, 2])
      }
      #expect(try bytes(path) == [7])
      #expect(try names(folder) == ["out"])
    }
  }

  @Test func keepsPermissionsAndLinks() throws {
    try withTemporaryFolder { folder in
      try AtomicFile.write([1], to: folder + "/target")
      #expect(chmod(folder + "/target", 0o640) == 0)
      #expect(symlink("target", folder + "/link") == 0)
      try FileManager.default.createDirectory(
        atPath: folder + "/inner", withIntermediateDirectories: false)
      #expect(symlink("../link", folder + "/inner/link") == 0)
      try AtomicFile.write([2], to: folder + "/inner/link")
      #expect(try bytes(folder + "/target") == [2])
      #expect(try permissions(folder + "/target") == 0o640)
      #expect(try names(folder) == ["inner", "link", "target"])
      #expect(try names(folder + "/inner") == ["link"])

      #expect(symlink("new", folder + "/dangling") == 0)
      try AtomicFile.write([3], to: folder + "/dangling")
      #expect(try bytes(folder + "/new") == [3])
    }
  }

  @Test func refusesWhatIsNoFile() throws {
    try withTemporaryFolder { folder in
      #expect(symlink("loop", folder + "/loop") == 0)
      #expect(mkfifo(folder + "/pipe", 0o600) == 0)
      try AtomicFile.write([1], to: folder + "/file")
      let paths = [
        "", folder, folder + "/", folder + "/.", "/", "/dev/null", "/dev/full", folder + "/loop",
        folder + "/pipe", folder + "/nothing/out", folder + "/file/out",
        folder + "/" + String(repeating: "n", count: 300),
      ]
      for path in paths {
        let error = #expect(throws: QMError.self, "\(path)") {
          try AtomicFile.write([1], to: path)
        }
        #expect(error == .cannotWrite(""))
        #expect(error?.context.first == .file(path))
      }
      #expect(try names(folder) == ["file", "loop", "pipe"])
      let error = #expect(throws: QMError.self) { try AtomicFile.write([1], to: paths[9]) }
      #expect(error?.message == "there is no folder '\(folder)/nothing'; make it first")
    }
  }

  @Test func longNamesAreNoReasonToFail() throws {
    try withTemporaryFolder { folder in
      let name = String(repeating: "n", count: 255)
      try AtomicFile.write([1], to: folder + "/" + name)
      try AtomicFile.write([2], to: folder + "/" + name)
      #expect(try bytes(folder + "/" + name) == [2])
      #expect(try names(folder) == [name])
    }
  }

  @Test func concurrentWritersLeaveOneOfTheirFiles() async throws {
    let folder = FileManager.default.temporaryDirectory.path + "/qm-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    await withTaskGroup { group in
      for writer in UInt8(0)..<8 {
        group.addTask {
          #expect(throws: Never.self) {
            try AtomicFile.write([UInt8](repeating: writer, count: 10_000), to: folder + "/out")
          }
        }
      }
    }
    let found = try bytes(folder + "/out")
    #expect(found.count == 10_000)
    #expect(Set(found).count == 1)
    #expect(try names(folder) == ["out"])
  }
}

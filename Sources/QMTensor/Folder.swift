#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Folders of the file system, for the readers of samples.
package enum Folder {
  /// Names of all files and folders in the folder but hidden ones, in no order.
  /// - Parameter expected: what the folder should be, for the error if it is none.
  /// - Throws: `cannotOpen`.
  package static func names(in path: String, expected: String) throws(QMError) -> [String] {
    guard let folder = opendir(path) else {
      throw .cannotOpen(
        errno == ENOTDIR ? "not a folder; \(expected)" : String(cString: strerror(errno)))
    }
    defer { closedir(folder) }
    var names: [String] = []
    while true {
      // Only errno tells the end from a failure.
      errno = 0
      guard let entry = readdir(folder) else { break }
      let name: String? = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(
          to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)
        ) { String(validatingCString: $0) }
      }
      guard let name else { throw .cannotOpen("a file's name is not UTF-8; rename it") }
      if !name.hasPrefix(".") { names.append(name) }
    }
    guard errno == 0 else { throw .cannotOpen(String(cString: strerror(errno))) }
    return names
  }

  /// Whether the path leads to a folder.
  package static func exists(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Whether the path leads to anything.
  package static func holds(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// The path of an entry of a folder.
  package static func path(_ folder: String, _ name: String) -> String {
    folder.hasSuffix("/") ? folder + name : folder + "/" + name
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Folders of the file system, for the readers of samples.
package enum Folder {
  /// Names of all entries of a folder, without those that begin with a dot, in no particular order.
  /// - Parameter expected: what should be at the path, for the message if it is not a folder.
  /// - Throws: `cannotOpen`.
  package static func names(in path: String, expected: String) throws(QMError) -> [String] {
    guard let folder = opendir(path) else {
      throw .cannotOpen(
        errno == ENOTDIR ? "not a folder; \(expected)" : String(cString: strerror(errno)))
    }
    defer { closedir(folder) }
    var names: [String] = []
    while true {
      // readdir returns nil at the end and on failure; only errno distinguishes them.
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

  /// Whether there is a folder at the path.
  package static func exists(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Whether there is anything at the path: a file, a folder or something else.
  package static func holds(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// The path of an entry of a folder.
  package static func path(_ folder: String, _ name: String) -> String {
    folder.hasSuffix("/") ? folder + name : folder + "/" + name
  }
}

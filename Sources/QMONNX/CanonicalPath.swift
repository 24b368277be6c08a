import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The absolute form of `path` with every symbolic link resolved.
/// - Throws: `cannotOpen` if nothing exists there.
func canonicalPath(_ path: String) throws(QMError) -> String {
  guard let canonical = realpath(path, nil) else {
    throw .cannotOpen(String(cString: strerror(errno)))
  }
  defer { free(canonical) }
  return String(cString: canonical)
}

/// The folder of a path: everything before the last slash, or ".".
func folder(of path: String) -> String {
  guard let slash = path.lastIndex(of: "/") else { return "." }
  return slash == path.startIndex ? "/" : String(path[..<slash])
}

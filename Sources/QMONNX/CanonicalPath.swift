import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// `path` from the root on, every link followed.
/// - Throws: `cannotOpen` if there is nothing.
func canonicalPath(_ path: String) throws(QMError) -> String {
  guard let canonical = realpath(path, nil) else {
    throw .cannotOpen(String(cString: strerror(errno)))
  }
  defer { free(canonical) }
  return String(cString: canonical)
}

/// The folder of a path: what stands before the last slash.
func folder(of path: String) -> String {
  guard let slash = path.lastIndex(of: "/") else { return "." }
  return slash == path.startIndex ? "/" : String(path[..<slash])
}

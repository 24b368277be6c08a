#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file that appears whole or not at all.
///
/// The bytes go to an unfinished file in the target's own folder; ``commit()`` flushes it to the
/// disk and puts it in the target's place in one step. Whoever reads the target sees the old file
/// or the new one. An unfinished file that is not committed is removed; where the file system has
/// files without a name (Linux), a killed process leaves nothing behind either.
///
/// - A target that is a symbolic link is followed: the link stays, the file behind it changes.
/// - The permissions of an existing target are kept. A target that may not be written is refused.
/// - Folders, devices, pipes and sockets are refused.
///
/// Every error is `cannotWrite` with the path as context.
public struct AtomicFile: ~Copyable {
  /// The path as the caller gave it.
  public let path: String
  private let folder: Int32
  private let descriptor: Int32
  private let name: String
  /// The name of the unfinished file in `folder`; nil while it has none.
  private var unfinishedName: String?
  private var isCommitted = false

  /// Opens an unfinished file in the folder of `path`.
  public init(path: String) throws(QMError) {
    let place = try within(.file(path)) { () throws(QMError) -> Place in
      try Place.resolving(path)
    }
    let unfinished: Unfinished
    do {
      unfinished = try Unfinished.open(in: place)
    } catch {
      close(place.folder)
      throw error.within(.file(path))
    }
    self.init(path: path, place: place, unfinished: unfinished)
  }

  private init(path: String, place: Place, unfinished: Unfinished) {
    self.path = path
    folder = place.folder
    name = place.name
    descriptor = unfinished.descriptor
    unfinishedName = unfinished.name
  }

  deinit {
    if !isCommitted, let unfinishedName { unlinkat(folder, unfinishedName, 0) }
    close(descriptor)
    close(folder)
  }

  /// Writes `bytes` and commits.
  public static func write(_ bytes: UnsafeRawBufferPointer, to path: String) throws(QMError) {
    var file = try AtomicFile(path: path)
    try file.write(bytes)
    try file.commit()
  }

  /// Writes `bytes` and commits.
  public static func write(_ bytes: [UInt8], to path: String) throws(QMError) {
    try bytes.withUnsafeBufferPointer { (bytes) throws(QMError) in
      try write(UnsafeRawBufferPointer(bytes), to: path)
    }
  }

  /// Appends `bytes`.
  public mutating func write(_ bytes: UnsafeRawBufferPointer) throws(QMError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      // Linux writes at most 0x7ffff000 bytes in one call; macOS refuses more than Int32.max.
      let chunk = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
      let written = systemWrite(descriptor, chunk.baseAddress!, chunk.count)
      if written < 0 {
        if errno == EINTR { continue }
        throw failure()
      }
      rest = rest.dropFirst(written)
    }
  }

  /// Appends `bytes`.
  public mutating func write(_ bytes: [UInt8]) throws(QMError) {
    try bytes.withUnsafeBufferPointer { (bytes) throws(QMError) in
      try write(UnsafeRawBufferPointer(bytes))
    }
  }

  /// Flushes the bytes to the disk and puts the file in the target's place.
  public consuming func commit() throws(QMError) {
    while fsync(descriptor) != 0 {
      if errno == EINTR { continue }
      // A file system without fsync (some network mounts) answers EINVAL.
      if errno == EINVAL || errno == ENOTSUP { break }
      throw failure()
    }
    if unfinishedName == nil {
      #if os(Linux)
        if link(to: name) {
          isCommitted = true
        } else if errno == EEXIST {
          let temporary = try nameUnfinished()
          unfinishedName = temporary
        } else {
          throw failure()
        }
      #endif
    }
    if !isCommitted, let unfinishedName {
      guard renameat(folder, unfinishedName, folder, name) == 0 else { throw failure() }
      isCommitted = true
    }
    // Flushing the folder makes the new name durable. Not every file system can: no error then.
    fsync(folder)
  }

  private func failure() -> QMError {
    QMError.cannotWrite(String(cString: strerror(errno))).within(.file(path))
  }

  #if os(Linux)
    /// Gives the unnamed file a name in its folder.
    /// - Returns: false on failure, with the reason in `errno`.
    private func link(to name: String) -> Bool {
      linkat(AT_FDCWD, "/proc/self/fd/\(descriptor)", folder, name, AT_SYMLINK_FOLLOW) == 0
    }

    private func nameUnfinished() throws(QMError) -> String {
      for _ in 0..<100 {
        let candidate = Unfinished.uniqueName()
        if link(to: candidate) { return candidate }
        if errno != EEXIST { break }
      }
      throw failure()
    }
  #endif
}

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}

/// The location of a target after its symbolic links are followed: an open folder and a name in it.
private struct Place {
  let folder: Int32
  let name: String
  /// Permissions of the file at this location; nil if there is none.
  let permissions: mode_t?

  static func resolving(_ path: String) throws(QMError) -> Place {
    guard !path.isEmpty else { throw .cannotWrite("the path is empty; give a file name") }
    var target = path
    // The kernel, too, follows at most 40 links.
    for _ in 0..<40 {
      let slash = target.utf8.lastIndex(of: UInt8(ascii: "/"))
      let name = slash.map { String(target[target.index(after: $0)...]) } ?? target
      let parent = slash.map { $0 == target.startIndex ? "/" : String(target[..<$0]) } ?? "."
      guard !name.isEmpty, name != ".", name != ".." else {
        throw .cannotWrite("is a folder; give a file name")
      }
      let folder = aboveStandardStreams(open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC))
      guard folder >= 0 else {
        let reason = errno
        throw .cannotWrite(
          reason == ENOENT
            ? "there is no folder '\(parent.abbreviated)'; make it first"
            : String(cString: strerror(reason)))
      }
      var status = stat()
      guard fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
        let reason = errno
        if reason == ENOENT { return Place(folder: folder, name: name, permissions: nil) }
        close(folder)
        throw .cannotWrite(String(cString: strerror(reason)))
      }
      switch status.st_mode & S_IFMT {
      case S_IFREG:
        guard faccessat(folder, name, W_OK, 0) == 0 else {
          let reason = errno
          close(folder)
          throw .cannotWrite(String(cString: strerror(reason)))
        }
        return Place(folder: folder, name: name, permissions: status.st_mode & 0o7777)
      case S_IFLNK:
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let length = bytes.withUnsafeMutableBytes { bytes in
          readlinkat(
            folder, name, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        close(folder)
        guard length > 0, length < bytes.count else {
          throw .cannotWrite("is a symbolic link that cannot be followed; give the file's own path")
        }
        let link = String(decoding: bytes[..<length], as: UTF8.self)
        target = link.utf8.first == UInt8(ascii: "/") ? link : parent + "/" + link
      case S_IFDIR:
        close(folder)
        throw .cannotWrite("is a folder; give a file name")
      default:
        close(folder)
        throw .cannotWrite("is a device, pipe or socket; give the name of a regular file")
      }
    }
    throw .cannotWrite(String(cString: strerror(ELOOP)))
  }
}

/// The file while it is being written. It has no name where the system supports unnamed files.
private struct Unfinished {
  let descriptor: Int32
  let name: String?

  static func open(in place: Place) throws(QMError) -> Unfinished {
    let nameless = openNameless(in: place)
    let unfinished = if let nameless { nameless } else { try openNamed(in: place) }
    // A file system without permissions (FAT) refuses this; the file is complete without them.
    if let permissions = place.permissions { fchmod(unfinished.descriptor, permissions) }
    return unfinished
  }

  private static func openNameless(in place: Place) -> Unfinished? {
    #if os(Linux)
      // O_TMPFILE: Swift does not import the macro. The value is that of x86-64 and arm64.
      let nameless = Int32(0o20000000) | O_DIRECTORY
      // The file is named through /proc; without /proc it could never be committed.
      guard access("/proc/self/fd", X_OK) == 0 else { return nil }
      let descriptor = aboveStandardStreams(
        openat(place.folder, ".", nameless | O_WRONLY | O_CLOEXEC, 0o666))
      return descriptor >= 0 ? Unfinished(descriptor: descriptor, name: nil) : nil
    #else
      return nil
    #endif
  }

  private static func openNamed(in place: Place) throws(QMError) -> Unfinished {
    for _ in 0..<100 {
      let name = uniqueName()
      let descriptor = aboveStandardStreams(
        openat(place.folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666))
      if descriptor >= 0 { return Unfinished(descriptor: descriptor, name: name) }
      if errno != EEXIST { break }
    }
    throw .cannotWrite(String(cString: strerror(errno)))
  }

  /// Short and independent of the target's name, which may already have the maximum length.
  static func uniqueName() -> String {
    ".qm-" + String(UInt64.random(in: .min ... .max), radix: 36) + ".unfinished"
  }
}

/// The same open file at a descriptor above 2: a process that was started with its standard output
/// closed must not print into the file. Negative descriptors (errors) are returned as they are.
private func aboveStandardStreams(_ descriptor: Int32) -> Int32 {
  guard (0...2).contains(descriptor) else { return descriptor }
  let moved = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
  let reason = errno
  close(descriptor)
  errno = reason
  return moved
}

import CQM
import QMTensor

/// Calls `body` for a function of C: an error becomes a status and the last error of the thread.
func status(_ body: () throws(QMError) -> Void) -> qm_status {
  do {
    try body()
    return QM_OK
  } catch {
    let status = error.code.status
    let remedy = error.remedies.map(\.description).joined(separator: ", or ").printable
    qm_set_last_error(status, error.statement.printable, remedy)
    return status
  }
}

/// What `body` returns; `otherwise` if it throws.
func value<Value>(_ otherwise: Value, _ body: () throws(QMError) -> Value) -> Value {
  var result = otherwise
  _ = status { () throws(QMError) in result = try body() }
  return result
}

extension QMError.Code {
  fileprivate var status: qm_status {
    switch self {
    case .usage: QM_ERROR_USAGE
    case .malformed: QM_ERROR_MALFORMED
    case .unsupported: QM_ERROR_UNSUPPORTED
    case .cannotOpen: QM_ERROR_CANNOT_OPEN
    case .outOfMemory: QM_ERROR_OUT_OF_MEMORY
    case .invalidInput: QM_ERROR_INVALID_INPUT
    case .cancelled: QM_ERROR_CANCELLED
    default: QM_ERROR_INTERNAL
    }
  }
}

/// A pointer that C must give.
/// - Throws: `usage` if it is NULL.
func required<Pointer>(_ pointer: Pointer?, _ name: String) throws(QMError) -> Pointer {
  guard let pointer else { throw .usage("\(name) is NULL") }
  return pointer
}

/// `count` elements that C must give unless there are none.
/// - Throws: `usage` if the pointer is NULL.
func elements<Element>(
  _ pointer: UnsafePointer<Element>?, _ count: Int, _ name: String
) throws(QMError) -> UnsafeBufferPointer<Element> {
  guard count > 0 else { return UnsafeBufferPointer(start: nil, count: 0) }
  return UnsafeBufferPointer(start: try required(pointer, name), count: count)
}

/// The structure that a caller may have compiled in an earlier, shorter version: what it lacks has
/// the value of `standard`.
/// - Throws: `usage` if the caller has not set the size.
func structure<Structure: BitwiseCopyable>(
  _ pointer: UnsafePointer<Structure>, standard: Structure
) throws(QMError) -> Structure {
  var result = standard
  let size = try structSize(pointer)
  withUnsafeMutableBytes(of: &result) { bytes in
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: min(size, bytes.count)))
  }
  return result
}

/// Writes a structure as far as the caller's version of it reaches; the caller's size stays.
/// - Throws: `usage` if the caller has not set the size.
func store<Structure: BitwiseCopyable>(
  _ structure: Structure, to pointer: UnsafeMutablePointer<Structure>
) throws(QMError) {
  let size = try structSize(pointer)
  withUnsafeBytes(of: structure) { bytes in
    let taken = bytes[MemoryLayout<Int>.size..<min(size, bytes.count)]
    UnsafeMutableRawPointer(pointer).advanced(by: MemoryLayout<Int>.size)
      .copyMemory(
        from: UnsafeRawBufferPointer(rebasing: taken).baseAddress!, byteCount: taken.count)
  }
}

/// The first field of a structure, which the caller sets to the structure's size.
private func structSize(_ pointer: UnsafeRawPointer) throws(QMError) -> Int {
  let size = pointer.loadUnaligned(as: Int.self)
  // A field behind the size, and no size that memory left as it was is likely to hold.
  guard (MemoryLayout<Int>.size * 2...1 << 12).contains(size) else {
    throw .usage("struct_size is \(size); set it to the size of the structure")
  }
  return size
}

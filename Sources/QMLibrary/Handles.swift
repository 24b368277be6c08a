import QMOperations
import QMTensor

/// The objects behind the handles that C holds, by number. A handle is no address, and no number is
/// given twice: a closed handle, or one that never was, is found out.
///
/// A call keeps its object alive, so that closing a handle disturbs no call on another thread.
final class Handles<Object: AnyObject & Sendable>: Sendable {
  private struct State {
    var objects: [Int: Object] = [:]
    var next: Int
  }

  private let state: Locked<State>
  private let kind: String
  private static var step: Int { 16 }

  /// - Parameters:
  ///   - kind: what the handles are of, for messages.
  ///   - first: a number below ``step``, so that handles of different kinds are different.
  init(_ kind: String, first: Int) {
    self.kind = kind
    state = Locked(State(next: Self.step + first))
  }

  func add(_ object: Object) -> OpaquePointer {
    state.withLock { state in
      defer { state.next += Self.step }
      state.objects[state.next] = object
      return Number(value: state.next)
    }.pointer
  }

  func remove(_ handle: OpaquePointer?) {
    let number = Int(bitPattern: handle)
    // Outside of the lock, because freeing a large object takes time.
    _ = state.withLock { $0.objects.removeValue(forKey: number) }
  }

  /// - Throws: `usage` for NULL and for closed handles.
  func object(_ handle: OpaquePointer?) throws(QMError) -> Object {
    let number = Int(bitPattern: handle)
    guard let object = state.withLock({ $0.objects[number] }) else {
      throw .usage(handle == nil ? "the \(kind) is NULL" : "the \(kind) is closed")
    }
    return object
  }

  private struct Number: Sendable {
    let value: Int
    /// Not NULL: numbers begin above 0.
    var pointer: OpaquePointer { OpaquePointer(bitPattern: value)! }
  }
}

/// Text and numbers for C, which stay where they are until the object is freed.
final class CStorage: @unchecked Sendable {
  private var texts: [UnsafeMutablePointer<CChar>] = []
  private var arrays: [UnsafeMutableRawPointer] = []

  deinit {
    for text in texts { text.deallocate() }
    for array in arrays { array.deallocate() }
  }

  func text(_ string: String) -> UnsafePointer<CChar> {
    let copy = string.copiedForC
    texts.append(copy)
    return UnsafePointer(copy)
  }

  func array<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafePointer<Element> {
    let copy = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
    copy.initialize(from: elements, count: elements.count)
    arrays.append(UnsafeMutableRawPointer(copy))
    return UnsafePointer(copy)
  }
}

/// Text for C that is never freed.
struct StaticText: @unchecked Sendable {
  let pointer: UnsafePointer<CChar>

  init(_ string: String) { pointer = UnsafePointer(string.copiedForC) }
}

extension String {
  /// A copy that ends with a zero; the caller frees it.
  fileprivate var copiedForC: UnsafeMutablePointer<CChar> {
    let bytes = utf8CString
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
    bytes.withUnsafeBufferPointer { copy.initialize(from: $0.baseAddress!, count: $0.count) }
    return copy
  }
}

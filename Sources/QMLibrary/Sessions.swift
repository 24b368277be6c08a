import CQM
import QMRuntime
import QMTensor
import Synchronization

/// What a `qm_session` stands for.
final class SessionHandle: @unchecked Sendable {
  static let all = Handles<SessionHandle>("session", first: 2)

  let session: Session
  private let isInUse = Atomic(false)
  // What only the call that uses the session may touch.
  private var shapes: [[Int]]?
  private var hasRun = false
  /// The shape of each output of the last run, for C.
  private var outputShapes: [[Int64]] = []
  private var outputShapeTexts = CStorage()
  private var outputShapePointers: [UnsafePointer<Int64>] = []

  init(_ model: Model) { session = Session(model) }

  /// Calls `body` as the only user of the session.
  /// - Throws: `usage` if there is another.
  func use<R>(_ body: () throws(QMError) -> R) throws(QMError) -> R {
    let (isMine, _) = isInUse.compareExchange(
      expected: false, desired: true, ordering: .acquiringAndReleasing)
    guard isMine else { throw .usage("the session is in use by another call") }
    defer { isInUse.store(false, ordering: .releasing) }
    return try body()
  }

  // The functions below are called within `use`.

  func prepare(_ shapes: [[Int]]) throws(QMError) {
    (self.shapes, hasRun) = (nil, false)
    try session.prepare(shapes)
    self.shapes = shapes
  }

  func run(_ inputs: UnsafeBufferPointer<qm_input>) throws(QMError) {
    var shapes: [[Int]] = []
    for (index, input) in inputs.enumerated() {
      shapes.append(try extents(input.shape, input.rank, input: index))
    }
    if shapes != self.shapes { try prepare(shapes) }
    for (index, input) in inputs.enumerated() {
      try within(.value(session.model.inputs[index].name)) { () throws(QMError) in
        try session.withInput(index) { (bytes) throws(QMError) in
          guard input.byte_count == bytes.count else {
            throw .invalidInput("found \(input.byte_count) bytes, expected \(bytes.count)")
          }
          guard bytes.count > 0 else { return }
          bytes.copyMemory(
            from: UnsafeRawBufferPointer(
              start: try required(input.data, "data"), count: bytes.count))
        }
      }
    }
    try runInPlace()
  }

  func runInPlace() throws(QMError) {
    hasRun = false
    guard shapes != nil else { throw .usage("the session is not prepared") }
    try session.runInPlace()
    hasRun = true
  }

  func input(_ index: Int) throws(QMError) -> UnsafeMutableRawBufferPointer {
    guard let shapes else { throw .usage("the session is not prepared") }
    _ = try at(index, in: shapes, "input")
    return session.withInput(index) { $0 }
  }

  func output(_ index: Int) throws(QMError) -> (shape: [Int64], bytes: UnsafeRawBufferPointer) {
    guard hasRun else { throw .usage("the session has no outputs: its last run did not end well") }
    let shape = try at(index, in: session.outputExtents, "output")
    return (shape.map(Int64.init), session.withOutput(index) { $0 })
  }

  /// An output with its shape in memory that is valid until other shapes come.
  func outputForC(_ index: Int) throws(QMError) -> qm_output {
    let (shape, bytes) = try output(index)
    if outputShapes != session.outputExtents.map({ $0.map(Int64.init) }) {
      outputShapes = session.outputExtents.map { $0.map(Int64.init) }
      outputShapeTexts = CStorage()
      outputShapePointers = outputShapes.map(outputShapeTexts.array)
    }
    var output = qm_output()
    output.element_type = Int32(session.model.outputs[index].type.elementType.rawValue)
    output.rank = Int32(shape.count)
    output.shape = outputShapePointers[index]
    output.data = bytes.baseAddress
    output.byte_count = bytes.count
    return output
  }
}

/// A shape that C gives.
/// - Throws: `invalidInput` if an extent is negative; `usage` for a NULL pointer.
private func extents(
  _ pointer: UnsafePointer<Int64>?, _ rank: Int, input index: Int
) throws(QMError) -> [Int] {
  // A file has at most 16 axes; a larger number is none, and the memory behind it is not read.
  guard (0...64).contains(rank) else { throw .invalidInput("input \(index) has rank \(rank)") }
  let extents = try elements(pointer, rank, "the shape of input \(index)").map { Int($0) }
  guard extents.allSatisfy({ $0 >= 0 }) else {
    throw .invalidInput("the shape of input \(index) is \(extents)")
  }
  return extents
}

/// Shapes of all inputs that C gives.
private func shapes(
  _ pointer: UnsafePointer<qm_shape>?, _ count: Int, of session: Session
) throws(QMError) -> [[Int]] {
  try requireInputs(count, of: session)
  var result: [[Int]] = []
  for (index, shape) in try elements(pointer, count, "shapes").enumerated() {
    result.append(try extents(shape.extents, shape.rank, input: index))
  }
  return result
}

/// Checked before the caller's array is read.
private func requireInputs(_ count: Int, of session: Session) throws(QMError) {
  let expected = session.model.inputs.count
  guard count == expected else {
    throw .invalidInput("found \(count) inputs, the model has \(expected)")
  }
}

@c @implementation
public func qm_session_create(
  _ model: OpaquePointer!, _ session: UnsafeMutablePointer<OpaquePointer?>!
) -> qm_status {
  status { () throws(QMError) in
    let handle = try required(session, "session")
    handle.pointee = nil
    handle.pointee = SessionHandle.all.add(SessionHandle(try ModelHandle.all.object(model).model))
  }
}

@c @implementation
public func qm_session_close(_ session: OpaquePointer!) { SessionHandle.all.remove(session) }

@c @implementation
public func qm_session_run(
  _ session: OpaquePointer!, _ inputs: UnsafePointer<qm_input>!, _ input_count: Int
) -> qm_status {
  status { () throws(QMError) in
    let handle = try SessionHandle.all.object(session)
    try requireInputs(input_count, of: handle.session)
    let inputs = try elements(inputs, input_count, "inputs")
    try handle.use { () throws(QMError) in try handle.run(inputs) }
  }
}

@c @implementation
public func qm_session_memory_needed(
  _ session: OpaquePointer!, _ shapes: UnsafePointer<qm_shape>!, _ input_count: Int,
  _ byte_count: UnsafeMutablePointer<UInt64>!
) -> qm_status {
  status { () throws(QMError) in
    let session = try SessionHandle.all.object(session).session
    try required(byte_count, "byte_count").pointee = UInt64(
      session.memoryNeeded(for: QMLibrary.shapes(shapes, input_count, of: session)))
  }
}

@c @implementation
public func qm_session_prepare(
  _ session: OpaquePointer!, _ shapes: UnsafePointer<qm_shape>!, _ input_count: Int
) -> qm_status {
  status { () throws(QMError) in
    let handle = try SessionHandle.all.object(session)
    let shapes = try QMLibrary.shapes(shapes, input_count, of: handle.session)
    try handle.use { () throws(QMError) in try handle.prepare(shapes) }
  }
}

@c @implementation
public func qm_session_input(
  _ session: OpaquePointer!, _ index: Int, _ data: UnsafeMutablePointer<UnsafeMutableRawPointer?>!,
  _ byte_count: UnsafeMutablePointer<Int>!
) -> qm_status {
  status { () throws(QMError) in
    let handle = try SessionHandle.all.object(session)
    let (data, count) = (try required(data, "data"), try required(byte_count, "byte_count"))
    try handle.use { () throws(QMError) in
      let bytes = try handle.input(index)
      (data.pointee, count.pointee) = (bytes.baseAddress, bytes.count)
    }
  }
}

@c @implementation
public func qm_session_run_in_place(_ session: OpaquePointer!) -> qm_status {
  status { () throws(QMError) in
    let handle = try SessionHandle.all.object(session)
    try handle.use { () throws(QMError) in try handle.runInPlace() }
  }
}

@c @implementation
public func qm_session_output(
  _ session: OpaquePointer!, _ index: Int, _ output: UnsafeMutablePointer<qm_output>!
) -> qm_status {
  status { () throws(QMError) in
    let handle = try SessionHandle.all.object(session)
    let output = try required(output, "output")
    try handle.use { () throws(QMError) in try store(handle.outputForC(index), to: output) }
  }
}

@c @implementation
public func qm_session_copy_output(
  _ session: OpaquePointer!, _ index: Int, _ data: UnsafeMutableRawPointer!, _ byte_count: Int
) -> qm_status {
  status { () throws(QMError) in
    let handle = try SessionHandle.all.object(session)
    try handle.use { () throws(QMError) in
      let bytes = try handle.output(index).bytes
      guard byte_count == bytes.count else {
        throw .usage("found \(byte_count) bytes for output \(index), which has \(bytes.count)")
      }
      guard let source = bytes.baseAddress, bytes.count > 0 else { return }
      try required(data, "data").copyMemory(from: source, byteCount: bytes.count)
    }
  }
}

@c @implementation
public func qm_session_cancel(_ session: OpaquePointer!) -> qm_status {
  status { () throws(QMError) in try SessionHandle.all.object(session).session.cancel() }
}

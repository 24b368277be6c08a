import QMTensor

/// Reads and writes single arrays in NumPy's `.npy` format.
public enum NPY {
  /// Reads an `.npy` file into memory.
  ///
  /// The header is checked against the size of the file before memory for the elements is
  /// allocated. The file is read, not mapped, so that truncating it meanwhile causes an error and
  /// not the end of the process.
  ///
  /// - Parameter check: is called with the header before the elements are read; it may throw to
  ///   refuse the array.
  /// - Throws: `cannotOpen`, `malformed`, `unsupported`, `outOfMemory`, or the error of `check`;
  ///   with the path as context.
  public static func read(
    path: String, limits: NumPyLimits = .standard,
    check: (NPYHeader) throws(QMError) -> Void = { (_) throws(QMError) in }
  ) throws(QMError) -> Tensor {
    try within(.file(path)) { () throws(QMError) -> Tensor in
      try array(in: OpenFile(path: path), limits: limits, check: check)
    }
  }

  /// Reads the header of an `.npy` file, but not its elements.
  /// - Throws: as ``read(path:limits:check:)``.
  public static func header(path: String) throws(QMError) -> NPYHeader {
    try within(.file(path)) { () throws(QMError) -> NPYHeader in
      try header(of: OpenFile(path: path))
    }
  }

  private static func header(of file: OpenFile) throws(QMError) -> NPYHeader {
    let prefix = try file.bytes(0..<min(file.count, 64))
    let end = try NPYHeader.byteCount(prefix: prefix.bytes)
    let text = try file.bytes(0..<min(file.count, end))
    let header = try NPYHeader(parsing: text.bytes)
    try header.checkSize(fileByteCount: file.count)
    return header
  }

  private static func array(
    in file: OpenFile, limits: NumPyLimits, check: (NPYHeader) throws(QMError) -> Void
  ) throws(QMError) -> Tensor {
    let header = try header(of: file)
    try check(header)
    try limits.check(arrayByteCount: header.dataByteCount)
    let end = header.dataOffset + header.dataByteCount
    return try header.tensor(of: file.bytes(header.dataOffset..<end), at: 0)
  }
}

extension Tensor {
  /// Reads an `.npy` file that is in memory and fills `range` of the buffer (default: all of it).
  /// The tensor shares the buffer if the elements are little-endian, row-major and aligned.
  /// - Throws: `malformed`, `unsupported` (with the offset in `range`), `outOfMemory`.
  public init(npyBytes buffer: Buffer, in range: Range<Int>? = nil, limits: NumPyLimits = .standard)
    throws(QMError)
  {
    let range = range ?? 0..<buffer.count
    precondition(range.lowerBound >= 0 && range.upperBound <= buffer.count)
    let header = try Bytes(buffer: buffer, range: range).withBytes { (bytes) throws(QMError) in
      try NPYHeader(parsing: bytes)
    }
    try header.checkSize(fileByteCount: range.count)
    try limits.check(arrayByteCount: header.dataByteCount)
    self = try header.tensor(of: buffer, at: range.lowerBound + header.dataOffset)
  }
}

extension NPYHeader {
  /// Whether a file begins as an `.npy` file.
  /// - Throws: `cannotOpen`, with the path as context.
  static func begins(path: String) throws(QMError) -> Bool {
    try within(.file(path)) { () throws(QMError) in
      let file = try OpenFile(path: path)
      let start = try file.bytes(0..<min(file.count, magic.count))
      return withExtendedLifetime(start) { start.bytes.elementsEqual(magic) }
    }
  }

  /// Checks that the file ends with the last element.
  /// - Throws: `malformed` if it is shorter or longer.
  func checkSize(fileByteCount: Int) throws(QMError) {
    let found = fileByteCount - dataOffset
    guard found != dataByteCount else { return }
    throw QMError(
      .malformed,
      "\(elementType)\(shape) takes \(dataByteCount) bytes, found \(found): the file is "
        + (found < dataByteCount ? "cut short" : "longer than its array"),
      context: [.offset(dataOffset)])
  }

  /// The elements in `buffer` from `offset` on, converted to row-major order and little-endian.
  func tensor(of buffer: Buffer, at offset: Int) throws(QMError) -> Tensor {
    let stored = try Tensor(elementType, shape, buffer: buffer, byteOffset: offset)
    let isTransposed = order == .columnMajor && shape.count(where: { $0 > 1 }) > 1
    // For NumPy any byte other than 0 is true; a Swift Bool other than 0 and 1 is undefined.
    let isPlain = elementType != .bool || stored.bytes.allSatisfy { $0 <= 1 }
    if byteOrder == .little, !isTransposed, isPlain { return stored }

    let result = try Tensor(zeros: elementType, shape)
    guard stored.byteCount > 0 else { return result }
    let (source, destination) = (stored.bytes.baseAddress!, result.buffer.base)
    switch elementType.byteCount {
    case 1: copy(source, destination, isTransposed, as: UInt8.self)
    case 2: copy(source, destination, isTransposed, as: UInt16.self)
    case 4: copy(source, destination, isTransposed, as: UInt32.self)
    default: copy(source, destination, isTransposed, as: UInt64.self)
    }
    if elementType == .bool {
      for index in 0..<result.byteCount {
        let byte = destination.load(fromByteOffset: index, as: UInt8.self)
        destination.storeBytes(of: min(byte, 1), toByteOffset: index, as: UInt8.self)
      }
    }
    return result
  }

  private func copy<Pattern: FixedWidthInteger & BitwiseCopyable>(
    _ source: UnsafeRawPointer, _ destination: UnsafeMutableRawPointer, _ isTransposed: Bool,
    as: Pattern.Type
  ) {
    let size = MemoryLayout<Pattern>.size
    let isSwapped = byteOrder == .big
    func copyElement(from: Int, to: Int) {
      let pattern = source.loadUnaligned(fromByteOffset: from * size, as: Pattern.self)
      destination.storeBytes(
        of: isSwapped ? pattern.byteSwapped : pattern, toByteOffset: to * size, as: Pattern.self)
    }
    let count = shape.reduce(1, *)
    guard isTransposed else {
      for index in 0..<count { copyElement(from: index, to: index) }
      return
    }
    // Strides of column-major order: the first axis is the innermost.
    var strides = shape
    var stride = 1
    for axis in shape.indices {
      strides[axis] = stride
      stride *= shape[axis]
    }
    let last = shape.count - 1
    // A few columns at a time: their elements are far apart in the file, and each cache line that
    // is fetched for one row serves the next rows too.
    for first in Swift.stride(from: 0, to: shape[last], by: 16) {
      let columns = first..<min(first + 16, shape[last])
      var index = [Int](repeating: 0, count: last)
      var row = 0
      for start in Swift.stride(from: 0, to: count, by: shape[last]) {
        for column in columns {
          copyElement(from: row + column * strides[last], to: start + column)
        }
        var axis = last - 1
        while axis >= 0 {
          index[axis] += 1
          row += strides[axis]
          if index[axis] < shape[axis] { break }
          row -= index[axis] * strides[axis]
          index[axis] = 0
          axis -= 1
        }
      }
    }
  }
}

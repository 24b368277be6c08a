import CZlib
import QMTensor

/// Raw deflate streams (RFC 1951), without zlib's or gzip's wrapper: the container has checksums
/// and lengths of its own.
package enum Deflate {
  /// The most that deflate can make of one byte: 258 bytes from two bits, in the limit.
  static let largestRatio = 1032

  /// Ways of zlib to search for matches. Any reader reads what each of them writes.
  static let strategies = [Z_DEFAULT_STRATEGY, Z_FILTERED, Z_RLE, Z_HUFFMAN_ONLY]

  /// The shortest stream that any of ``strategies`` gives; the first of equals.
  package static func smallest(_ bytes: UnsafeRawBufferPointer) throws(QMError) -> [UInt8] {
    var smallest = try compress(bytes, strategy: strategies[0])
    for strategy in strategies.dropFirst() {
      let stream = try compress(bytes, strategy: strategy)
      if stream.count < smallest.count { smallest = stream }
    }
    return smallest
  }

  private static func compress(_ bytes: UnsafeRawBufferPointer, strategy: Int32) throws(QMError)
    -> [UInt8]
  {
    var stream = z_stream()
    guard
      deflateInit2_(
        &stream, Z_BEST_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, strategy, ZLIB_VERSION,
        Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw .outOfMemory(byteCount: 1 << 18) }
    defer { deflateEnd(&stream) }
    var position = 0
    var result: [UInt8] = []
    result.reserveCapacity(Int(deflateBound(&stream, uLong(bytes.count))))
    var status = Z_OK
    while status != Z_STREAM_END {
      let part = min(bytes.count - position, chunkByteCount)
      // deflate never writes through next_in.
      stream.next_in = bytes.baseAddress.map {
        UnsafeMutablePointer(mutating: ($0 + position).assumingMemoryBound(to: UInt8.self))
      }
      stream.avail_in = uInt(part)
      let isLast = position + part == bytes.count
      repeat {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 1 << 16) { output in
          stream.next_out = output.baseAddress
          stream.avail_out = uInt(output.count)
          status = deflate(&stream, isLast ? Z_FINISH : Z_NO_FLUSH)
          result.append(contentsOf: output[..<(output.count - Int(stream.avail_out))])
        }
      } while stream.avail_out == 0
      position += part
    }
    return result
  }

  /// Inflates `stream` so that it fills `output` exactly and ends with its last byte.
  /// - Throws: `malformed` otherwise.
  package static func inflate(
    _ stream: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
  )
    throws(QMError)
  {
    let inflation = try Inflation()
    inflation.begin(byteCount: output.count, into: output)
    try inflation.append(stream) { (_) throws(QMError) in }
    try inflation.finish()
  }

  /// CRC-32 as in gzip and PNG, continued from `start`.
  static func crc32(_ bytes: UnsafeRawBufferPointer, from start: UInt32 = 0) -> UInt32 {
    var checksum = uLong(start)
    var position = 0
    while position < bytes.count {
      let part = min(bytes.count - position, chunkByteCount)
      checksum = CZlib.crc32(
        checksum, (bytes.baseAddress! + position).assumingMemoryBound(to: UInt8.self), uInt(part))
      position += part
    }
    return UInt32(checksum)
  }

  /// zlib counts in 32 bits.
  fileprivate static let chunkByteCount = 1 << 30
}

/// A raw deflate stream that arrives part by part, inflated into a window that is handed on
/// whenever it is full, and at the end.
final class Inflation {
  /// zlib's state points back to where it stands.
  private let state: UnsafeMutablePointer<z_stream>
  private var byteCount = 0
  private var window = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private var filled = 0
  /// Bytes out of, and into, the stream.
  private var (written, read) = (0, 0)
  private var isAtEnd = false

  /// - Throws: `outOfMemory`.
  init() throws(QMError) {
    state = .allocate(capacity: 1)
    state.initialize(to: z_stream())
    guard
      inflateInit2_(state, -MAX_WBITS, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw .outOfMemory(byteCount: 1 << 16) }
  }

  /// Begins a stream.
  /// - Parameters:
  ///   - byteCount: what the stream must inflate to.
  ///   - window: memory for a part of it, or all. It must outlive the stream.
  func begin(byteCount: Int, into window: UnsafeMutableRawBufferPointer) {
    self.byteCount = byteCount
    self.window = window
    (filled, written, read, isAtEnd) = (0, 0, 0, false)
    inflateReset(state)
  }

  deinit {
    inflateEnd(state)
    state.deallocate()
  }

  /// Takes the bytes of the stream that follow.
  /// - Parameter consume: gets what is inflated, a window at a time.
  /// - Throws: `malformed` if they are none, or inflate to more than they must; what `consume`
  ///   throws.
  func append(
    _ stream: UnsafeRawBufferPointer, _ consume: (UnsafeRawBufferPointer) throws(QMError) -> Void
  ) throws(QMError) {
    // One byte more than expected shows a stream that is too long.
    var excess: UInt8 = 0
    var taken = 0
    while taken < stream.count || !isAtEnd {
      guard !isAtEnd else { throw wrongLength(read + stream.count - taken) }
      let input = min(stream.count - taken, Deflate.chunkByteCount)
      // inflate never writes through next_in.
      state.pointee.next_in = stream.baseAddress.map {
        UnsafeMutablePointer(mutating: ($0 + taken).assumingMemoryBound(to: UInt8.self))
      }
      state.pointee.avail_in = uInt(input)
      let room = min(window.count - filled, byteCount - written, Deflate.chunkByteCount)
      let status = withUnsafeMutablePointer(to: &excess) { excess in
        if room > 0 {
          state.pointee.next_out = (window.baseAddress! + filled)
            .assumingMemoryBound(to: UInt8.self)
          state.pointee.avail_out = uInt(room)
        } else {
          state.pointee.next_out = excess
          state.pointee.avail_out = 1
        }
        return CZlib.inflate(state, Z_NO_FLUSH)
      }
      let used = input - Int(state.pointee.avail_in)
      taken += used
      read += used
      if room == 0 && state.pointee.avail_out == 0 {
        throw .malformed("the section inflates to more than the \(byteCount) bytes declared")
      }
      if room > 0 {
        let made = room - Int(state.pointee.avail_out)
        filled += made
        written += made
        if filled == window.count || (written == byteCount && made > 0) {
          try consume(UnsafeRawBufferPointer(rebasing: window[..<filled]))
          filled = 0
        }
      }
      switch status {
      case Z_OK: continue
      case Z_STREAM_END: isAtEnd = true
      case Z_BUF_ERROR:
        // No more can be done with what has arrived.
        if taken == stream.count { return }
      case Z_MEM_ERROR: throw .outOfMemory(byteCount: 1 << 16)
      default: throw .malformed("the section is not a deflate stream")
      }
    }
  }

  /// - Throws: `malformed` if the stream has not ended, or inflated to less than it must.
  func finish() throws(QMError) {
    guard isAtEnd else { throw .malformed("the deflate stream of the section is cut off") }
    guard written == byteCount else { throw wrongLength(read) }
  }

  private func wrongLength(_ read: Int) -> QMError {
    .malformed(
      "the section inflates to \(written) bytes from \(self.read), expected \(byteCount) from "
        + "\(read)")
  }
}

import CZlib
import QMTensor

/// Raw deflate streams (RFC 1951), without the wrapper of zlib or gzip: the container has its own
/// checksums and lengths.
package enum Deflate {
  /// The maximum compression ratio of deflate: at most 258 bytes per two bits.
  static let largestRatio = 1032

  /// zlib's strategies for finding matches. Every reader inflates the streams of all of them.
  static let strategies = [Z_DEFAULT_STRATEGY, Z_FILTERED, Z_RLE, Z_HUFFMAN_ONLY]

  /// The shortest stream over all ``strategies`` and ``HuffmanBlocks``; the first if several are equal.
  /// - Parameter boundaries: where the distribution of the bytes may change.
  package static func smallest(
    _ bytes: [UInt8], boundaries: [Int] = []
  ) throws(QMError) -> [UInt8] {
    let deflated = try bytes.withUnsafeBytes { raw in
      Result { () throws(QMError) in
        var smallest = try compress(raw, strategy: strategies[0])
        for strategy in strategies.dropFirst() {
          let stream = try compress(raw, strategy: strategy)
          if stream.count < smallest.count { smallest = stream }
        }
        return smallest
      }
    }.get()
    guard !bytes.isEmpty else { return deflated }
    let blocks = HuffmanBlocks(bytes, boundaries: boundaries)
    return (blocks.bitCount + 7) / 8 < deflated.count ? blocks.encoded(bytes) : deflated
  }

  private static func compress(_ bytes: UnsafeRawBufferPointer, strategy: Int32) throws(QMError)
    -> [UInt8]
  {
    var stream = z_stream()
    guard
      deflateInit2_(
        &stream, Z_BEST_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 9, strategy, ZLIB_VERSION,
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

  /// Inflates `stream` into `output`.
  /// - Throws: `malformed` unless the stream fills `output` exactly and ends with its last byte;
  ///   `outOfMemory`.
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

  /// The CRC-32 of gzip and PNG, continued from the checksum `start` of the bytes before.
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

/// Inflates a raw deflate stream that arrives part by part into a window. The content of the window
/// is passed on whenever it is full, and at the end.
final class Inflation {
  /// At a fixed address, because zlib's internal state points back to it.
  private let state: UnsafeMutablePointer<z_stream>
  private var byteCount = 0
  private var window = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private var filled = 0
  /// Number of inflated bytes written and of deflated bytes read.
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
  ///   - byteCount: the size that the stream must inflate to.
  ///   - window: memory for part or all of the result. It must outlive the stream.
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

  /// Inflates the next part of the stream.
  /// - Parameter consume: is called with the content of the window, once it is full or complete.
  /// - Throws: `malformed` if the part is not a deflate stream or inflates to too many bytes;
  ///   `outOfMemory`; the error of `consume`.
  func append(
    _ stream: UnsafeRawBufferPointer, _ consume: (UnsafeRawBufferPointer) throws(QMError) -> Void
  ) throws(QMError) {
    // Receives one byte after the last expected one, to detect a stream that is too long.
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
        throw .malformed("the section inflates to more than the expected \(byteCount) bytes")
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
        // zlib needs more input.
        if taken == stream.count { return }
      case Z_MEM_ERROR: throw .outOfMemory(byteCount: 1 << 16)
      default: throw .malformed("the section is not a deflate stream")
      }
    }
  }

  /// Checks that the stream has ended and has the expected size.
  /// - Throws: `malformed` otherwise.
  func finish() throws(QMError) {
    guard isAtEnd else { throw .malformed("the deflate stream of the section is truncated") }
    guard written == byteCount else { throw wrongLength(read) }
  }

  private func wrongLength(_ read: Int) -> QMError {
    .malformed(
      "the section inflates to \(written) bytes from \(self.read), expected \(byteCount) from "
        + "\(read)")
  }
}

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
    var smallest: [UInt8]?
    for strategy in strategies {
      let stream = try compress(bytes, strategy: strategy)
      if smallest.map({ stream.count < $0.count }) ?? true { smallest = stream }
    }
    return smallest!
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
    var state = z_stream()
    guard
      inflateInit2_(&state, -MAX_WBITS, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw .outOfMemory(byteCount: 1 << 16) }
    defer { inflateEnd(&state) }
    // One byte more than expected shows a stream that is too long.
    var excess: UInt8 = 0
    var (read, written) = (0, 0)
    while true {
      let input = min(stream.count - read, chunkByteCount)
      state.next_in = stream.baseAddress.map {
        UnsafeMutablePointer(mutating: ($0 + read).assumingMemoryBound(to: UInt8.self))
      }
      state.avail_in = uInt(input)
      let room = min(output.count - written, chunkByteCount)
      let status = withUnsafeMutablePointer(to: &excess) { excess in
        if room > 0 {
          state.next_out = (output.baseAddress! + written).assumingMemoryBound(to: UInt8.self)
          state.avail_out = uInt(room)
        } else {
          state.next_out = excess
          state.avail_out = 1
        }
        return CZlib.inflate(&state, Z_NO_FLUSH)
      }
      read += input - Int(state.avail_in)
      if room == 0 && state.avail_out == 0 {
        throw .malformed("the section inflates to more than the \(output.count) bytes declared")
      }
      if room > 0 { written += room - Int(state.avail_out) }
      switch status {
      case Z_OK: continue
      case Z_STREAM_END:
        guard written == output.count, read == stream.count else {
          throw .malformed(
            "the section inflates to \(written) bytes from \(read), expected \(output.count) "
              + "from \(stream.count)")
        }
        return
      case Z_MEM_ERROR: throw .outOfMemory(byteCount: 1 << 16)
      case Z_BUF_ERROR: throw .malformed("the deflate stream of the section is cut off")
      default: throw .malformed("the section is not a deflate stream")
      }
    }
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
  private static let chunkByteCount = 1 << 30
}

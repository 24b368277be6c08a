/// Identifies a set of samples by their contents: the sum of their SHA-256 digests modulo 2²⁵⁶, each
/// read as a big-endian number.
///
/// It does not depend on names, on order, or on how the samples are divided into parts. It tells sets
/// apart that differ by accident; somebody who wants to can make two sets with the same sum.
package struct SampleSetDigest: Hashable, Sendable {
  /// 32 bytes; zeros for no samples.
  package private(set) var bytes = [UInt8](repeating: 0, count: 32)

  package init() {}

  /// - Returns: nil unless there are 32 bytes.
  init?(bytes: [UInt8]) {
    guard bytes.count == 32 else { return nil }
    self.bytes = bytes
  }

  /// Adds the digest of a sample, or of other samples.
  /// - Parameter digest: 32 bytes.
  package mutating func add(_ digest: [UInt8]) {
    var carry = 0
    for (index, byte) in digest.enumerated().reversed() where bytes.indices.contains(index) {
      let sum = Int(bytes[index]) + Int(byte) + carry
      bytes[index] = UInt8(truncatingIfNeeded: sum)
      carry = sum >> 8
    }
  }
}

import QMFormat
import QMTensor

/// What a converted file and a report say of the file that was converted.
struct SourceFile {
  let byteCount: Int
  /// SHA-256.
  let digest: [UInt8]

  /// Reads the file once. It is not kept: beside the network, its pages would double the memory of a
  /// conversion.
  /// - Throws: `cannotOpen`, with the path as context.
  init(path: String) throws(QMError) {
    let bytes = try Buffer.mapping(path: path)
    var digest = Digest()
    withExtendedLifetime(bytes) { digest.update(bytes.bytes) }
    (byteCount, self.digest) = (bytes.count, digest.finished())
  }
}

import QMTensor

extension NPY {
  /// The bytes of an `.npy` file: version 1.0, row-major, little-endian; the elements begin at a
  /// multiple of 64 bytes. Equal tensors give equal bytes.
  /// - Throws: `unsupported` for bfloat16, which NumPy does not have.
  public static func encode(_ tensor: Tensor) throws(QMError) -> [UInt8] {
    try NPYHeader(tensor.elementType, tensor.shape).encoded() + tensor.bytes
  }

  /// Writes an `.npy` file, which appears whole or not at all (``AtomicFile``).
  /// - Throws: `cannotWrite` with the path as context; as ``encode(_:)``.
  public static func write(_ tensor: Tensor, to path: String) throws(QMError) {
    let header = try within(.file(path)) { () throws(QMError) -> [UInt8] in
      try NPYHeader(tensor.elementType, tensor.shape).encoded()
    }
    var file = try AtomicFile(path: path)
    try file.write(header)
    try file.write(tensor.bytes)
    try file.commit()
  }
}

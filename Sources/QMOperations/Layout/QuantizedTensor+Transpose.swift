import QMTensor

extension QuantizedTensor {
  /// The codes in another order of axes: axis `i` of the result is axis `permutation[i]` of this
  /// one.
  /// - Throws: `malformed` if `permutation` is not one of the axes; `outOfMemory`.
  public func transposed(_ permutation: [Int]) throws(QMError) -> QuantizedTensor {
    var result = self
    let transpose = Operation.transpose(Transpose(permutation: permutation))
    result.codes = try transpose.evaluate([codes])[0]
    // Scales per group have the same axes as the codes.
    if case .perGroup = granularity { result.scales = try transpose.evaluate([scales])[0] }
    result.granularity = granularity.permuted(by: permutation)
    return result
  }
}

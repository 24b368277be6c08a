import QMTensor

extension QuantizedTensor {
  /// The codes in another order of axes: axis `i` of the result is axis `permutation[i]` of this
  /// one.
  /// - Throws: `malformed` for what is no permutation of the axes; `outOfMemory`.
  public func transposed(_ permutation: [Int]) throws(QMError) -> QuantizedTensor {
    var result = self
    let transpose = Operation.transpose(Transpose(permutation: permutation))
    result.codes = try transpose.evaluate([codes])[0]
    // Scales of groups have an axis for each of the codes.
    if case .perGroup = granularity { result.scales = try transpose.evaluate([scales])[0] }
    result.granularity = granularity.permuted(by: permutation)
    return result
  }
}

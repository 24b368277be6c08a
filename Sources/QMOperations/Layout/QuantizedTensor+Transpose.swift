import QMTensor

extension QuantizedTensor {
  /// The codes in another order of axes: axis `i` of the result is axis `permutation[i]` of this
  /// one.
  /// - Throws: `malformed` for what is no permutation of the axes; `outOfMemory`.
  public func transposed(_ permutation: [Int]) throws(QMError) -> QuantizedTensor {
    var result = self
    result.codes = try Operation.transpose(Transpose(permutation: permutation))
      .evaluate([codes])[0]
    result.granularity = granularity.permuted(by: permutation)
    return result
  }
}

import CQMKernels
import QMTensor

// What the operations on single elements share.

extension ValueType {
  /// Whether the elements stand for real numbers: float32, or codes on one grid.
  var isReal: Bool {
    switch quantization {
    case .none: elementType == .float32
    case .fixed: elementType.codes != nil
    default: false
    }
  }

  /// Whether the elements are whole numbers that operations compute with.
  var isInteger: Bool {
    quantization == .none && (elementType == .int32 || elementType == .int64)
  }

  /// - Throws: `malformed` if scale and zero point of codes break their rules.
  func checkParametersIfFixed() throws(QMError) {
    if case .fixed(let scale, let zeroPoint) = quantization {
      try QuantizationParameters(elementType, scale: scale, zeroPoint: zeroPoint).check()
    }
  }

  /// The type as C knows it, where its elements stand for real numbers.
  var codes: qm_codes {
    let type = Int32(elementType.rawValue)
    if case .fixed(let scale, let zeroPoint) = quantization {
      return qm_codes(element_type: type, scale: scale, zero_point: zeroPoint)
    }
    return qm_codes(element_type: type, scale: 1, zero_point: 0)
  }

  /// 1 / scale, in float32; 1 where the elements are no codes.
  var inverseScale: Float {
    if case .fixed(let scale, _) = quantization { 1 / scale } else { 1 }
  }
}

/// Output elements that are worth a thread.
let elementwiseChunkLength = 1 << 14

/// Runs `body` on consecutive pieces of `count` elements, on the threads of a pool.
func forEachChunk(
  of count: Int, on threads: ThreadPool, _ body: (_ start: Int, _ count: Int) -> Void
) {
  threads.run(chunks: (count + elementwiseChunkLength - 1) / elementwiseChunkLength) { chunk, _ in
    let start = chunk * elementwiseChunkLength
    body(start, min(elementwiseChunkLength, count - start))
  }
}

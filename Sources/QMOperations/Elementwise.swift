import CQMKernels
import QMTensor

// Shared by the element-wise operations.

extension ValueType {
  /// Whether the elements are float32, or codes with fixed quantization.
  var isFloatOrCodes: Bool {
    switch quantization {
    case .none: elementType == .float32
    case .fixed: elementType.codes != nil
    default: false
    }
  }

  /// Whether the elements are integers of the types with integer arithmetic.
  var isInteger: Bool {
    quantization == .none && (elementType == .int32 || elementType == .int64)
  }

  /// - Throws: `malformed` if the scale or zero point of fixed quantization is invalid.
  func checkParametersIfFixed() throws(QMError) {
    if case .fixed(let scale, let zeroPoint) = quantization {
      try QuantizationParameters(elementType, scale: scale, zeroPoint: zeroPoint).check()
    }
  }

  /// The type for C, if its elements are float32 or codes with fixed quantization.
  var codes: qm_codes {
    let type = Int32(elementType.rawValue)
    if case .fixed(let scale, let zeroPoint) = quantization {
      return qm_codes(element_type: type, scale: scale, zero_point: zeroPoint)
    }
    return qm_codes(element_type: type, scale: 1, zero_point: 0)
  }

  /// 1 / scale, in float32; 1 if the elements are no codes.
  var inverseScale: Float {
    if case .fixed(let scale, _) = quantization { 1 / scale } else { 1 }
  }
}

/// Output elements per chunk: fewer are not worth waking a thread for.
let elementwiseChunkLength = 1 << 14

/// Runs `body` on consecutive chunks of `count` elements, on the threads of a pool.
func forEachChunk(
  of count: Int, on threads: ThreadPool, _ body: (_ start: Int, _ count: Int) -> Void
) {
  threads.run(chunks: (count + elementwiseChunkLength - 1) / elementwiseChunkLength) { chunk, _ in
    let start = chunk * elementwiseChunkLength
    body(start, min(elementwiseChunkLength, count - start))
  }
}

import QMTensor

/// A chain of functions from int8 codes to int8 codes, as the 256 entries of a ``Table``:
///
///     entry(code) = encode(f_n(… f_1(inputScale · Float(code − inputZeroPoint))))
///
/// The first entry is that of code −128. Between the functions nothing is rounded to codes.
/// The scales and zero points must obey the rules of ``QuantizationParameters/check()``.
public func lookupTable(
  of functions: [UnaryFunction], inputScale: Float, inputZeroPoint: Int32, outputScale: Float,
  outputZeroPoint: Int32
) -> [Int8] {
  let inverseScale = 1 / outputScale
  return (Int32(-128)...127).map { code in
    let input = decode(code: code, scale: inputScale, zeroPoint: inputZeroPoint)
    let result = functions.reduce(input) { $1($0) }
    return Int8(
      encode(
        real: result, inverseScale: inverseScale, zeroPoint: outputZeroPoint, lowest: -128,
        highest: 127))
  }
}

import QMTensor

/// A chain of functions between two grids of int8 codes, as the 256 entries of a ``Table``:
///
///     entry(code) = encode(f_n(… f_1(inputScale · Float(code − inputZeroPoint))))
///
/// of code −128 first. In between nothing is rounded to a grid.
/// The scales and zero points must obey the rules of ``QuantizationParameters/check()``.
public func lookupTable(
  of functions: [UnaryFunction], inputScale: Float, inputZeroPoint: Int32, outputScale: Float,
  outputZeroPoint: Int32
) -> [Int8] {
  let inverseScale = 1 / outputScale
  return (Int32(-128)...127).map { code in
    let real = functions.reduce(decode(code: code, scale: inputScale, zeroPoint: inputZeroPoint)) {
      $1($0)
    }
    return Int8(
      encode(
        real: real, inverseScale: inverseScale, zeroPoint: outputZeroPoint, lowest: -128,
        highest: 127))
  }
}

import CQMKernels
import QMTensor

// Functions of float32 numbers that give the same bits on every processor. They are built from
// + − × ÷ √, fused multiply-add, rounding to an integer and exact conversions, in the order written
// here; `CQMKernels/functions/functions_vector.inc` takes the same steps on vectors.
//
// A NaN result always has the bits 0x7FC00000; every function of NaN is NaN. Largest errors, in
// units in the last place of the correctly rounded result, for results that are normal numbers:
//
//     exponential 1 · logarithm 1 · tanh 1.2 · erf 1 · sigmoid 2.1 · softplus 2 · elu 1
//     sine, cosine, tangent, power 0.51, for every argument
//     silu, mish 3, from x = −87 on · gelu, geluTanh: 1.5e-7 · max(1, |x|), absolute

extension UnaryFunction {
  /// The function's code in `.qm` files and in C. Never changes.
  public var code: UInt8 {
    switch self {
    case .relu: 0
    case .clip: 1
    case .leakyRelu: 2
    case .thresholdedRelu: 3
    case .elu: 4
    case .selu: 5
    case .celu: 6
    case .hardSigmoid: 7
    case .hardSwish: 8
    case .sigmoid: 9
    case .silu: 10
    case .tanh: 11
    case .erf: 12
    case .gelu: 13
    case .geluTanh: 14
    case .softplus: 15
    case .softsign: 16
    case .mish: 17
    case .exponential: 18
    case .logarithm: 19
    case .squareRoot: 20
    case .reciprocal: 21
    case .square: 22
    case .absolute: 23
    case .negate: 24
    case .sign: 25
    case .floor: 26
    case .ceiling: 27
    case .round: 28
    case .sine: 29
    case .cosine: 30
    case .tangent: 31
    case .affine: 32
    }
  }

  /// The function's parameters, in the order of the case's labels; at most two.
  public var parameters: [Float] {
    switch self {
    case .clip(let minimum, let maximum): [minimum, maximum]
    case .leakyRelu(let slope): [slope]
    case .thresholdedRelu(let threshold): [threshold]
    case .elu(let alpha), .celu(let alpha): [alpha]
    case .selu(let alpha, let gamma): [alpha, gamma]
    case .hardSigmoid(let alpha, let beta): [alpha, beta]
    case .affine(let scale, let offset): [scale, offset]
    default: []
    }
  }

  /// The function that a file names by its code.
  /// - Returns: nil if no function has the code, or if the function takes another number of
  ///   parameters.
  public init?(code: UInt8, parameters: [Float]) {
    let first = parameters.first ?? 0
    let second = parameters.dropFirst().first ?? 0
    switch code {
    case 0: self = .relu
    case 1: self = .clip(minimum: first, maximum: second)
    case 2: self = .leakyRelu(slope: first)
    case 3: self = .thresholdedRelu(threshold: first)
    case 4: self = .elu(alpha: first)
    case 5: self = .selu(alpha: first, gamma: second)
    case 6: self = .celu(alpha: first)
    case 7: self = .hardSigmoid(alpha: first, beta: second)
    case 8: self = .hardSwish
    case 9: self = .sigmoid
    case 10: self = .silu
    case 11: self = .tanh
    case 12: self = .erf
    case 13: self = .gelu
    case 14: self = .geluTanh
    case 15: self = .softplus
    case 16: self = .softsign
    case 17: self = .mish
    case 18: self = .exponential
    case 19: self = .logarithm
    case 20: self = .squareRoot
    case 21: self = .reciprocal
    case 22: self = .square
    case 23: self = .absolute
    case 24: self = .negate
    case 25: self = .sign
    case 26: self = .floor
    case 27: self = .ceiling
    case 28: self = .round
    case 29: self = .sine
    case 30: self = .cosine
    case 31: self = .tangent
    case 32: self = .affine(scale: first, offset: second)
    default: return nil
    }
    guard self.parameters.count == parameters.count else { return nil }
  }

  /// The function as the C kernels take it.
  var unary: qm_unary {
    let parameters = parameters
    return qm_unary(
      function: Int32(code), first: parameters.first ?? 0,
      second: parameters.dropFirst().first ?? 0)
  }
}

extension UnaryFunction {
  /// The function's value. This code *defines* the function, bit by bit.
  public func callAsFunction(_ x: Float) -> Float { canonical(value(x)) }

  private func value(_ x: Float) -> Float {
    switch self {
    case .relu: x < 0 ? 0 : x
    case .clip(let minimum, let maximum): clamp(x, minimum, maximum)
    case .leakyRelu(let slope): x < 0 ? x * slope : x
    case .thresholdedRelu(let threshold): x <= threshold ? 0 : x
    case .elu(let alpha): x > 0 ? x : exponentialMinusOne(x) * alpha
    case .selu(let alpha, let gamma): (x > 0 ? x : exponentialMinusOne(x) * alpha) * gamma
    case .celu(let alpha): x > 0 ? x : exponentialMinusOne(x / alpha) * alpha
    case .hardSigmoid(let alpha, let beta): clamp(x * alpha + beta, 0, 1)
    case .hardSwish: x * clamp(x * 0x1.555556p-3 + 0.5, 0, 1)
    case .sigmoid: logisticSigmoid(x)
    case .silu: x * logisticSigmoid(x)
    case .tanh: hyperbolicTangent(x)
    case .erf: errorFunction(x)
    case .gelu: x * 0.5 * (errorFunction(x * 0x1.6a09e6p-1) + 1)
    case .geluTanh:
      x * 0.5 * (hyperbolicTangent((x * x * x * 0x1.6e4e26p-5 + x) * 0x1.988454p-1) + 1)
    case .softplus: softplusValue(x)
    case .softsign: x / (x.magnitude + 1)
    case .mish: mishValue(x)
    case .exponential: exponentialValue(x)
    case .logarithm: naturalLogarithm(x)
    case .squareRoot: x.squareRoot()
    case .reciprocal: 1 / x
    case .square: x * x
    case .absolute: x.magnitude
    case .negate: -x
    case .sign: x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x
    case .floor: x.rounded(.down)
    case .ceiling: x.rounded(.up)
    case .round: x.rounded(.toNearestOrEven)
    case .sine: Float(sineAndCosine(x).sine)
    case .cosine: Float(sineAndCosine(x).cosine)
    case .tangent:
      { (pair: (sine: Double, cosine: Double)) in Float(pair.sine / pair.cosine) }(sineAndCosine(x))
    case .affine(let scale, let offset): x * scale + offset
    }
  }
}

/// `x` raised to `y`, with the special cases of IEEE 754's pow. `y = 2` is `x · x`.
public func power(_ x: Float, _ y: Float) -> Float { canonical(powerValue(x, y)) }

/// `x`, with every NaN replaced by the one NaN that operations store.
func canonical(_ x: Float) -> Float { x == x ? x : Float(bitPattern: 0x7FC0_0000) }

private func clamp(_ x: Float, _ minimum: Float, _ maximum: Float) -> Float {
  let y = x < minimum ? minimum : x
  return y > maximum ? maximum : y
}

/// a · b + c with one rounding.
private func fma(_ a: Float, _ b: Float, _ c: Float) -> Float { c.addingProduct(a, b) }
private func fma(_ a: Double, _ b: Double, _ c: Double) -> Double { c.addingProduct(a, b) }

private func withSign(_ magnitude: Float, of sign: Float) -> Float {
  Float(bitPattern: magnitude.bitPattern | (sign.bitPattern & 0x8000_0000))
}

private func float(bits: Int32) -> Float { Float(bitPattern: UInt32(bitPattern: bits)) }

/// `e^x = 2^n · (1 + p)`, `|x − n · ln 2| ≤ 0.35`: Cody–Waite reduction, ln 2 in two parts.
private func exponentialParts(_ x: Float) -> (p: Float, n: Int32) {
  // Adding 1.5 · 2²³ rounds to the nearest integer and leaves it in the low bits.
  let shifted = fma(x, 0x1.715476p+0, 0x1.8p23)
  let whole = shifted - 0x1.8p23
  let n = Int32(bitPattern: shifted.bitPattern) &- 0x4B40_0000
  var r = fma(whole, -0x1.62e43p-1, x)
  r = fma(whole, 0x1.05c61p-29, r)
  var q: Float = 0x1.a032cp-13
  q = fma(q, r, 0x1.6d7226p-10)
  q = fma(q, r, 0x1.11118ap-7)
  q = fma(q, r, 0x1.5554b2p-5)
  q = fma(q, r, 0x1.555554p-3)
  q = fma(q, r, 0.5)
  return (fma(r * r, q, r), n)
}

private func exponentialValue(_ x: Float) -> Float {
  let (p, n) = exponentialParts(clamp(x, -104, 89))
  // In two factors, so that a result below the normal numbers rounds once.
  let half = n >> 1
  return (p + 1) * float(bits: (half &+ 127) << 23) * float(bits: (n &- half &+ 127) << 23)
}

/// `e^x − 1`
private func exponentialMinusOne(_ x: Float) -> Float {
  let (p, n) = exponentialParts(clamp(x, -30, 89))
  // Half of 2^n: 2^n itself overflows for the largest x.
  let half = float(bits: (n &+ 126) << 23)
  return fma(half, p, half - 0.5) * 2
}

private func naturalLogarithm(_ x: Float) -> Float {
  if x == 0 { return -.infinity }
  if x < 0 { return .nan }
  if !(x < .infinity) { return x }
  // x = 2^e · (1 + f), 1 + f within √½…√2.
  let isTiny = x < 0x1p-126
  let bits = Int32(bitPattern: (isTiny ? x * 0x1p23 : x).bitPattern)
  let e = (bits &- 0x3F35_04F3) >> 23
  let f = float(bits: bits &- (e << 23)) - 1
  let exponent = Float(isTiny ? e - 23 : e)
  var q: Float = -0x1.38c7eep-4
  q = fma(q, f, 0x1.056632p-3)
  q = fma(q, f, -0x1.0d86fep-3)
  q = fma(q, f, 0x1.22d8cep-3)
  q = fma(q, f, -0x1.5471f8p-3)
  q = fma(q, f, 0x1.99a014p-3)
  q = fma(q, f, -0x1.000228p-2)
  q = fma(q, f, 0x1.555554p-2)
  q = fma(q, f, -0.5)
  let low = fma(exponent, -0x1.05c61p-29, f * f * q)
  return fma(exponent, 0x1.62e43p-1, f + low)
}

private func hyperbolicTangent(_ x: Float) -> Float {
  let a = x.magnitude
  guard a < 0.625 else {
    return withSign(1 - 2 / (exponentialValue(a + a) + 1), of: x)
  }
  let s = x * x
  var q: Float = 0x1.18e1c4p-9
  q = fma(q, s, -0x1.0bf4f6p-7)
  q = fma(q, s, 0x1.638b56p-6)
  q = fma(q, s, -0x1.b9ee9p-5)
  q = fma(q, s, 0x1.11106p-3)
  q = fma(q, s, -0x1.555554p-2)
  return fma(s * q, x, x)
}

private func errorFunction(_ x: Float) -> Float {
  let a = x.magnitude
  if a < 0.921875 {
    let s = x * x
    var q: Float = 0x1.5cd4aap-14
    q = fma(q, s, -0x1.aa3f2cp-11)
    q = fma(q, s, 0x1.54c7f4p-8)
    q = fma(q, s, -0x1.b80e9p-6)
    q = fma(q, s, 0x1.ce2e0ap-4)
    q = fma(q, s, -0x1.812742p-2)
    q = fma(q, s, 0x1.06eba8p-3)
    return fma(q, x, x)
  }
  // 1 − erf(a) = exp(a · q(a) − a); beyond 4 the result is 1.
  let c = a > 4 ? 4 : a
  var q: Float = -0x1.78dd8ep-17
  q = fma(q, c, 0x1.527c6ap-12)
  q = fma(q, c, -0x1.dd6cd8p-9)
  q = fma(q, c, 0x1.85515ep-6)
  q = fma(q, c, -0x1.b32574p-4)
  q = fma(q, c, -0x1.45328ep-1)
  q = fma(q, c, -0x1.0778dcp-3)
  return withSign(1 - exponentialValue(fma(q, c, -c)), of: x)
}

private func logisticSigmoid(_ x: Float) -> Float {
  let z = exponentialValue(-x.magnitude)
  return (x < 0 ? z : 1) / (z + 1)
}

/// `max(x, 0) + ln(1 + e^−|x|)`
private func softplusValue(_ x: Float) -> Float {
  let z = exponentialValue(-x.magnitude)
  let u = z + 1
  // ln(1 + z): the second term corrects the rounding error of u.
  let logarithm = naturalLogarithm(u) + (z - (u - 1)) / u
  return (x > 0 ? x : 0) + logarithm
}

/// `x · tanh(softplus(x))`, where the tangent is `n / (n + 2)` with `n = e^x (e^x + 2)`.
private func mishValue(_ x: Float) -> Float {
  let e = exponentialValue(x > 20 ? 20 : x)
  let n = e * (e + 2)
  return x * (n / (n + 2))
}

/// Computed in double: the error is far below a float32's last place for every finite argument.
private func sineAndCosine(_ x: Float) -> (sine: Double, cosine: Double) {
  let (quadrant, r) = reduced(x)
  let s = r * r
  var p = -0x1.a96464e94d9a3p-26
  p = fma(p, s, 0x1.71d7763a7e41ap-19)
  p = fma(p, s, -0x1.a019f94e22e3ep-13)
  p = fma(p, s, 0x1.1111110c99a6ep-7)
  p = fma(p, s, -0x1.555555555237fp-3)
  let sine = fma(p * s, r, r)
  p = -0x1.23d5fe7adb12dp-22
  p = fma(p, s, 0x1.a00f069411aa3p-16)
  p = fma(p, s, -0x1.6c16b3ec02121p-10)
  p = fma(p, s, 0x1.55555546d6f45p-5)
  p = fma(p, s, -0x1.ffffffffebc87p-2)
  let cosine = fma(p, s, 1)
  let isOdd = quadrant & 1 != 0
  let sineOfX = isOdd ? cosine : sine
  let cosineOfX = isOdd ? sine : cosine
  return (
    quadrant & 2 != 0 ? -sineOfX : sineOfX, (quadrant &+ 1) & 2 != 0 ? -cosineOfX : cosineOfX
  )
}

/// Splits `x = quadrant · π/2 + r` with `|r| ≤ 0.79`; only the quadrant's two low bits matter.
private func reduced(_ x: Float) -> (quadrant: Int64, r: Double) {
  if x.magnitude >= 0x1p30 && x.magnitude < .infinity { return reducedLarge(x) }
  let wide = Double(x)
  let shifted = fma(wide, 0x1.45f306dc9c883p-1, 0x1.8p52)
  let whole = shifted - 0x1.8p52
  var r = fma(whole, -0x1.921fb54442d18p+0, wide)
  r = fma(whole, -0x1.1a62633145c07p-54, r)
  return (Int64(bitPattern: shifted.bitPattern), r)
}

/// Leading bits of 2/π after the binary point.
private let twoOverPi: [UInt32] = [
  0xa2f9_836e, 0x4e44_1529, 0xfc27_57d1, 0xf534_ddc0, 0xdb62_9599, 0x3c43_9041, 0xfe51_63ab,
  0xdebb_c561,
]

/// Payne–Hanek reduction: x · 2/π modulo 4 in fixed point, 62 bits after the point.
private func reducedLarge(_ x: Float) -> (quadrant: Int64, r: Double) {
  let significand = UInt64(x.significandBitPattern | 0x80_0000)
  // x = significand · 2^exponent; bits of 2/π worth more than 2^(2 − exponent) give multiples of 4.
  let skipped = Int(x.exponentBitPattern) - 152
  let word = skipped / 32
  let shift = UInt64(skipped % 32)
  let high = UInt64(twoOverPi[word]) << 32 | UInt64(twoOverPi[word + 1])
  let low = UInt64(twoOverPi[word + 2]) << 32 | UInt64(twoOverPi[word + 3])
  let window = high << shift | low >> (64 - shift)
  let rest = (low << shift) >> 32
  let fraction = significand &* window &+ ((significand &* rest) >> 32)
  let quadrant = Int64((fraction &+ 0x2000_0000_0000_0000) >> 62)
  let r = Double(Int64(bitPattern: fraction << 2)) * 0x1p-64 * 0x1.921fb54442d18p+0
  return x < 0 ? (-quadrant, -r) : (quadrant, r)
}

/// The special cases first; then `2^(y · log₂|x|)` in double, with its sign.
private func powerValue(_ x: Float, _ y: Float) -> Float {
  if y == 0 || x == 1 { return 1 }
  if y == 2 { return x * x }
  if x.isNaN || y.isNaN { return .nan }
  let isWhole = y.rounded(.down) == y
  if x < 0 && x > -.infinity && !isWhole { return .nan }
  let isOdd = isWhole && (y * 0.5).rounded(.down) != y * 0.5

  let a = Double(x.magnitude)
  // a = 2^exponent · m, m within √½…√2; log₂ m by the series of the inverse hyperbolic tangent.
  let biased = (a.bitPattern &- 0x3FE6_A09E_667F_3BCD &+ 0x4000_0000_0000_0000) >> 52
  let m = Double(bitPattern: a.bitPattern &- ((biased &- 1024) << 52))
  let exponent = Double(bitPattern: biased + 0x4330_0000_0000_0000) - 0x1.00000000004p52
  let f = (m - 1) / (m + 1)
  let s = f * f
  var p = 0x1.f19853c3a40b4p-3
  p = fma(p, s, 0x1.0bb6f74fd3502p-2)
  p = fma(p, s, 0x1.484fb23a291edp-2)
  p = fma(p, s, 0x1.a617565ee8124p-2)
  p = fma(p, s, 0x1.2776c516c4f58p-1)
  p = fma(p, s, 0x1.ec709dc39c78cp-1)
  p = fma(p, s, 0x1.71547652b8301p+1)
  var logarithm = fma(p, f, exponent)
  if a == 0 { logarithm = -.infinity }
  if a == .infinity { logarithm = a }
  var z = a == 1 ? 0 : Double(y) * logarithm
  z = z < -160 ? -160 : z
  z = z > 160 ? 160 : z
  let shifted = z + 0x1.8p52
  let r = z - (shifted - 0x1.8p52)
  p = 0x1.b418b487b8c46p-24
  p = fma(p, r, 0x1.63ee56b2c0e40p-20)
  p = fma(p, r, 0x1.ffcdf92a975f6p-17)
  p = fma(p, r, 0x1.43088f833280dp-13)
  p = fma(p, r, 0x1.5d87fda16e7cfp-10)
  p = fma(p, r, 0x1.3b2ab72a26dd9p-7)
  p = fma(p, r, 0x1.c6b08d70c7933p-5)
  p = fma(p, r, 0x1.ebfbdff81570ep-3)
  p = fma(p, r, 0x1.62e42fefa377bp-1)
  p = fma(p, r, 1)
  let scale = Double(bitPattern: (shifted.bitPattern &- 0x4338_0000_0000_0000 &+ 1023) << 52)
  let magnitude = Float(p * scale)
  return isOdd ? withSign(magnitude, of: x) : magnitude
}

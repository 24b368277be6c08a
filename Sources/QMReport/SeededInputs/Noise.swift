import QMTensor

/// Numbers drawn from a seed: the generator SplitMix64 (Steele, Lea, Flood 2014). Everything is
/// computed from integers and single float operations, so that the numbers are the same on every
/// machine.
package struct RandomNumbers {
  private var state: UInt64

  /// Numbers that differ for each pair of seed and stream.
  package init(seed: UInt64, stream: Int) {
    state = seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(stream)
  }

  /// 64 random bits.
  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number of `0..<bound`; `bound` is at least 1.
  package mutating func next(below bound: Int) -> Int { Int(next() % UInt64(bound)) }

  /// A number of a nearly normal distribution of mean 0 and deviation 1: the sum of four uniform
  /// numbers, whose variance is 1/3.
  package mutating func nextNormal() -> Float {
    (0..<4).reduce(Float(-2)) { sum, _ in sum + Float(next() >> 40) * 0x1p-24 } * 1.7
  }
}

/// Random fields in place of pictures, sounds and measurements, whose amplitude falls with the
/// frequency f as 1/f^p. Pictures and sounds have p near 1, white noise 0.
struct Noise {
  /// 2p, 0 to 3.
  let doubledSlope: Int
  /// Whether no number is negative, as in pictures and spectra.
  let isOneSided: Bool

  /// Number of ``kinds``.
  static let kindCount = kinds.count

  private static let kinds = [
    Noise(doubledSlope: 0, isOneSided: false), Noise(doubledSlope: 2, isOneSided: false),
    Noise(doubledSlope: 1, isOneSided: true), Noise(doubledSlope: 1, isOneSided: false),
    Noise(doubledSlope: 3, isOneSided: false), Noise(doubledSlope: 2, isOneSided: true),
  ]

  private init(doubledSlope: Int, isOneSided: Bool) {
    self.doubledSlope = doubledSlope
    self.isOneSided = isOneSided
  }

  /// The kinds of noise in turn.
  init(kind: Int) { self = Noise.kinds[kind % Noise.kinds.count] }

  /// A field of mean square 1 in row-major order, unless all its numbers are zero.
  ///
  /// Every octave of frequencies is white noise behind a low-pass filter of its own,
  /// y[t] = a · y[t − 1] + √(1 − a²) · x[t] with a = 1 − 2^−octave, along every long axis.
  func numbers(_ shape: [Int], _ random: inout RandomNumbers) -> [Float] {
    let count = shape.reduce(1, *)
    guard count > 0 else { return [] }
    let axes = Noise.longAxes(of: shape)
    let octaves =
      doubledSlope == 0 ? 1 : Noise.octaveCount(axes.map { shape[$0] }.max() ?? 1)
    // In d dimensions an octave of frequencies near f has the power f^(d − 2p).
    let power = doubledSlope - axes.count
    let step: Float = power >= 0 ? Float(2).squareRoot() : Float(0.5).squareRoot()
    let gain = (0..<abs(power)).reduce(Float(1)) { gain, _ in gain * step }
    var sum = [Float](repeating: 0, count: count)
    var amplitude: Float = 1
    for octave in 0..<octaves {
      var field = (0..<count).map { _ in random.nextNormal() }
      if octave > 0 {
        let feedback = 1 - 1 / Float(1 << octave)
        for axis in axes { Noise.filter(&field, shape, along: axis, feedback) }
      }
      for index in sum.indices { sum[index] += amplitude * field[index] }
      amplitude *= gain
    }
    Noise.normalize(&sum)
    if isOneSided {
      for index in sum.indices { sum[index] = max(0, sum[index] + 1) }
      Noise.normalize(&sum)
    }
    return sum
  }

  /// The axes of places and times: not the first, which is the batch, nor a few channels.
  private static func longAxes(of shape: [Int]) -> [Int] {
    let axes = shape.indices.dropFirst().filter { shape[$0] > 4 }
    return axes.isEmpty ? Array(shape.indices.suffix(1)) : axes
  }

  /// At most 8: slower changes than over 256 elements are constant for what a kernel sees.
  private static func octaveCount(_ extent: Int) -> Int {
    max(1, min(8, Int.bitWidth - 1 - max(extent, 1).leadingZeroBitCount))
  }

  private static func filter(
    _ field: inout [Float], _ shape: [Int], along axis: Int, _ feedback: Float
  ) {
    let inner = shape[(axis + 1)...].reduce(1, *)
    let extent = shape[axis]
    let gain = (1 - feedback * feedback).squareRoot()
    for first in stride(from: 0, to: field.count, by: extent * inner) {
      for index in first + inner..<max(first + inner, first + extent * inner) {
        field[index] = feedback * field[index - inner] + gain * field[index]
      }
    }
  }

  /// Scales to mean square 1.
  private static func normalize(_ field: inout [Float]) {
    let sum = field.reduce(0.0) { $0 + Double($1) * Double($1) }
    guard sum > 0 else { return }
    let factor = Float((Double(field.count) / sum).squareRoot())
    for index in field.indices { field[index] *= factor }
  }
}

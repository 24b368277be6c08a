import CQMKernels
import QMOperations
import QMTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Every function, with parameters that reach its branches.
let everyFunction: [UnaryFunction] = [
  .relu, .clip(minimum: -1, maximum: 6), .leakyRelu(slope: 0.01),
  .thresholdedRelu(threshold: 0.5), .elu(alpha: 1.5), .selu(alpha: 1.6732632, gamma: 1.050701),
  .celu(alpha: 0.75), .hardSigmoid(alpha: 0.2, beta: 0.5), .hardSwish, .sigmoid, .silu, .tanh,
  .erf, .gelu, .geluTanh, .softplus, .softsign, .mish, .exponential, .logarithm, .squareRoot,
  .reciprocal, .square, .absolute, .negate, .sign, .floor, .ceiling, .round, .sine, .cosine,
  .tangent, .affine(scale: 0.3, offset: -2),
]

private let specialNumbers: [Float] = [
  0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 160, -160, .infinity, -.infinity, .nan,
  .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude,
  .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 16_777_216, 0x1p30, 0x1.fffffep29,
  Float(bitPattern: 0xFFC0_1234), Float(bitPattern: 0x7F80_0001), 88.72284, -103.97, 0.625, 4,
]

@Suite struct FunctionsTests {
  @Test("compatibility break: the numbers of functions are written in files")
  func codesAreFrozen() {
    #expect(everyFunction.map(\.code) == Array(0...32))
    for function in everyFunction {
      #expect(UnaryFunction(code: function.code, parameters: function.parameters) == function)
    }
    #expect(UnaryFunction(code: 33, parameters: []) == nil)
    #expect(UnaryFunction(code: 0, parameters: [1]) == nil)
    #expect(UnaryFunction(code: 1, parameters: [1]) == nil)
    #expect(UnaryFunction(code: 1, parameters: [1, 2, 3]) == nil)
  }

  /// A sweep over the bit patterns of Float: every exponent, both signs, NaNs, subnormals.
  @Test(arguments: everyFunction)
  func kernelsEqualTheDefinition(function: UnaryFunction) {
    var inputs = specialNumbers
    for pattern in stride(from: UInt32(0), to: UInt32.max - 10_007, by: 10_007) {
      inputs.append(Float(bitPattern: pattern))
    }
    let expected = inputs.map { function($0).bitPattern }
    let parameters = function.parameters
    let unary = qm_unary(
      function: Int32(function.code), first: parameters.first ?? 0,
      second: parameters.dropFirst().first ?? 0)
    for set in availableSets {
      var outputs = inputs
      outputs.withUnsafeMutableBufferPointer {
        qm_unary_f32_for(set)!(unary, $0.baseAddress, $0.baseAddress, Int64($0.count))
      }
      let wrong = outputs.indices.first { outputs[$0].bitPattern != expected[$0] }
      #expect(wrong == nil, "\(function) on \(set) of \(wrong.map { inputs[$0] } ?? 0)")
    }
  }

  @Test func anyCountGivesTheSameBits() {
    let inputs = (0..<67).map { Float($0) * 0.37 - 9 }
    for set in availableSets {
      for count in 1...67 {
        var outputs = [Float](repeating: 77, count: count + 1)
        let tanh = qm_unary(function: Int32(QM_TANH), first: 0, second: 0)
        qm_unary_f32_for(set)!(tanh, inputs, &outputs, Int64(count))
        #expect((0..<count).allSatisfy { outputs[$0] == UnaryFunction.tanh(inputs[$0]) })
        #expect(outputs[count] == 77)
      }
    }
  }

  @Test func powerKernelsEqualTheDefinition() {
    var bases: [Float] = []
    var exponents: [Float] = []
    for base in specialNumbers {
      for exponent in specialNumbers {
        bases.append(base)
        exponents.append(exponent)
      }
    }
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<100_000 {
      bases.append(Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &generator)))
      exponents.append(Float(Int.random(in: -40...40, using: &generator)) / 4)
    }
    for set in availableSets {
      var outputs = [Float](repeating: 0, count: bases.count)
      qm_power_f32_for(set)!(bases, exponents, &outputs, Int64(bases.count))
      let wrong = outputs.indices.first {
        outputs[$0].bitPattern != power(bases[$0], exponents[$0]).bitPattern
      }
      #expect(wrong == nil, "\(wrong.map { (bases[$0], exponents[$0]) } ?? (0, 0)) on \(set)")
    }
  }

  @Test func everyNaNResultIsTheOneNaN() {
    for function in everyFunction {
      for x in specialNumbers {
        let y = function(x)
        if x.isNaN { #expect(y.isNaN, "\(function) does not pass NaN on") }
        if y.isNaN { #expect(y.bitPattern == 0x7FC0_0000, "\(function)(\(x))") }
      }
    }
  }

  /// The errors that Functions.swift states.
  @Test(arguments: [
    Truth(.exponential, 1, exp), Truth(.logarithm, 1, log), Truth(.tanh, 1.2, tanh),
    Truth(.erf, 1, erf), Truth(.sigmoid, 2.1) { 1 / (1 + exp(-$0)) },
    Truth(.softplus, 2) { $0 > 40 ? $0 : log1p(exp($0)) },
    Truth(.elu(alpha: 1), 1) { $0 > 0 ? $0 : expm1($0) },
    Truth(.silu, 3, from: -87) { $0 / (1 + exp(-$0)) },
    Truth(.mish, 3, from: -87) { $0 * tanh($0 > 40 ? $0 : log1p(exp($0))) },
    Truth(.sine, 0.51, sin), Truth(.cosine, 0.51, cos), Truth(.tangent, 0.51, tan),
    Truth(.reciprocal, 0.5) { 1 / $0 }, Truth(.squareRoot, 0.5) { $0.squareRoot() },
  ])
  func errorStaysWithinTheStatedBound(truth: Truth) {
    var worst = 0.0
    var at: Float = 0
    for pattern in stride(from: UInt32(0), to: UInt32.max - 20_011, by: 20_011) {
      let x = Float(bitPattern: pattern)
      if x < truth.lowest { continue }
      let error = errorInLastPlaces(truth.function(x), truth.value(Double(x)))
      if error > worst { (worst, at) = (error, x) }
    }
    #expect(worst <= truth.bound, "\(truth.function)(\(at))")
  }

  @Test func geluStaysWithinItsAbsoluteBound() {
    for step in -20_000...20_000 {
      let x = Float(step) / 2000
      let wide = Double(x)
      let exact = wide / 2 * erfc(-wide / 2.0.squareRoot())
      let approximate =
        wide / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (wide + 0.044715 * wide * wide * wide)))
      let bound = 1.5e-7 * max(1, abs(wide))
      #expect(abs(Double(UnaryFunction.gelu(x)) - exact) <= bound)
      #expect(abs(Double(UnaryFunction.geluTanh(x)) - approximate) <= bound)
    }
  }

  @Test func powerStaysWithinItsBound() {
    var generator = SeededGenerator(seed: 2)
    for _ in 0..<200_000 {
      let x = Float(exp(Double.random(in: -30...30, using: &generator)))
      let y = Float.random(in: -6...6, using: &generator)
      #expect(errorInLastPlaces(power(x, y), pow(Double(x), Double(y))) <= 0.51)
    }
    for x in specialNumbers where !x.isNaN {
      for y in specialNumbers where !y.isNaN {
        let truth = Float(pow(Double(x), Double(y)))
        if truth == 0 || truth.isInfinite || truth.isNaN {
          let found = power(x, y)
          #expect(found == truth || found.isNaN && truth.isNaN, "\(x) to the power \(y)")
          #expect(found.sign == truth.sign || truth.isNaN, "\(x) to the power \(y)")
        }
      }
    }
  }
}

struct Truth: CustomTestStringConvertible {
  let function: UnaryFunction
  /// In units in the last place.
  let bound: Double
  /// The bound holds from this argument on.
  let lowest: Float
  let value: @Sendable (Double) -> Double

  init(
    _ function: UnaryFunction, _ bound: Double, from lowest: Float = -.infinity,
    _ value: @escaping @Sendable (Double) -> Double
  ) {
    self.function = function
    self.bound = bound
    self.lowest = lowest
    self.value = value
  }

  var testDescription: String { "\(function)" }
}

/// Sets of kernels that this machine can run.
let availableSets: [qm_kernel_set] = (0..<UInt32(QM_KERNEL_SET_COUNT)).map { qm_kernel_set($0) }
  .filter { qm_kernel_set_available($0) }

/// |found − truth| in units in the last place of the float nearest to the truth; 0 where the truth
/// is below the normal numbers or beyond the finite ones and `found` is of that kind too.
private func errorInLastPlaces(_ found: Float, _ truth: Double) -> Double {
  if truth.isNaN { return found.isNaN ? 0 : .infinity }
  let nearest = Float(truth)
  if nearest.isInfinite || found.isInfinite {
    let reach = Double(Float.greatestFiniteMagnitude)
    return found == nearest || (abs(truth) > reach * 0.999999 && found.magnitude > 3.4e38)
      ? 0 : .infinity
  }
  if abs(truth) < Double(Float.leastNormalMagnitude) {
    return found.magnitude <= Float.leastNormalMagnitude ? 0 : .infinity
  }
  return abs(Double(found) - truth) / Double(nearest.ulp)
}

import QMOperations
import QMTensor

/// For y = f(x): ∂x = ∂y · f′(x). Where f has a corner, f′ is the derivative of one of its sides; a
/// function that only rounds (floor, ceiling, round) or jumps (sign) has the derivative 0.
extension Unary: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let count = try node.outputShape().reduce(1, *)
    let function = function
    if function.derivativeReadsResult {
      return GradientKernel(outputs: [0]) { memory in
        let (gradient, target) = (memory.outputGradients[0]!, memory.inputGradients[0]!)
        let y = memory.output()
        memory.threads.forParts(of: count) { range in
          function.addGradient(
            ofResult: y + range.lowerBound, gradient + range.lowerBound,
            to: target + range.lowerBound, count: range.count)
        }
      }
    }
    // The functions of the forward run are the ones in the derivative, evaluated by their kernels.
    var scratch = ScratchParts()
    let derivative = try UnaryDerivative(function, count: count, node, &scratch)
    return GradientKernel(reading: [0], scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      try derivative.add(
        memory.outputGradients[0]!, at: memory.input(0), to: memory.inputGradients[0]!, memory)
    }
  }
}

extension UnaryFunction {
  /// Whether f′ follows from f(x).
  var derivativeReadsResult: Bool {
    switch self {
    case .relu, .sigmoid, .tanh, .exponential, .squareRoot, .reciprocal, .floor, .ceiling, .round,
      .sign, .negate, .affine:
      true
    case .leakyRelu(let slope): slope > 0
    case .clip(let minimum, let maximum): minimum < maximum
    default: false
    }
  }

  /// Adds gradient · f′ for results y = f(x).
  fileprivate func addGradient(
    ofResult y: Floats, _ gradient: Floats, to target: Floats, count: Int
  ) {
    switch self {
    case .relu:
      for i in 0..<count { target[i] += y[i] > 0 ? gradient[i] : 0 }
    case .leakyRelu(let slope):
      for i in 0..<count { target[i] += y[i] < 0 ? gradient[i] * slope : gradient[i] }
    case .clip(let minimum, let maximum):
      for i in 0..<count { target[i] += y[i] > minimum && y[i] < maximum ? gradient[i] : 0 }
    case .sigmoid:
      for i in 0..<count { target[i] += gradient[i] * (y[i] * (1 - y[i])) }
    case .tanh:
      for i in 0..<count { target[i] += gradient[i] * (1 - y[i] * y[i]) }
    case .exponential:
      for i in 0..<count { target[i] += gradient[i] * y[i] }
    case .squareRoot:
      for i in 0..<count { target[i] += y[i] > 0 ? gradient[i] * (0.5 / y[i]) : 0 }
    case .reciprocal:
      for i in 0..<count { target[i] -= gradient[i] * (y[i] * y[i]) }
    case .negate:
      for i in 0..<count { target[i] -= gradient[i] }
    case .affine(let scale, _):
      for i in 0..<count { target[i] += gradient[i] * scale }
    default: break
    }
  }
}

/// f′(x) of functions that are no simple function of f(x), from other functions of x.
struct UnaryDerivative {
  private let count: Int
  private let function: UnaryFunction
  /// Functions of x that the derivative is made of.
  private let parts: [PreparedOperation]
  /// Functions of other numbers than x.
  private let arguments: [Int]
  private let values: [Int]
  private let scratchOffset: Int

  init(
    _ function: UnaryFunction, count: Int, _ node: GradientNode, _ scratch: inout ScratchParts
  ) throws(QMError) {
    self.count = count
    self.function = function
    var parts: [PreparedOperation] = []
    for part in function.partsOfDerivative {
      parts.append(try node.prepared(.unary(Unary(part)), [[count]]))
    }
    self.parts = parts
    arguments = parts.map { _ in scratch.floats(count) }
    values = parts.map { _ in scratch.floats(count) }
    scratchOffset = scratch.bytes(
      parts.map { $0.scratchByteCount(threads: node.threadCount) }.max() ?? 0)
  }

  /// target += gradient · f′(x).
  func add(
    _ gradient: Floats, at x: Floats, to target: Floats, _ memory: GradientMemory
  ) throws(QMError) {
    var results: [Floats] = []
    for (index, part) in parts.enumerated() {
      let argument = memory.scratch.floats(at: arguments[index])
      let value = memory.scratch.floats(at: values[index])
      memory.threads.forParts(of: count) { range in
        for i in range { argument[i] = function.argument(index, x[i]) }
      }
      try part.run(
        [argument], [value], scratch: memory.scratch + scratchOffset, threads: memory.threads)
      results.append(value)
    }
    let (first, second) = (results.first ?? x, results.count > 1 ? results[1] : x)
    memory.threads.forParts(of: count) { range in
      for i in range {
        target[i] += gradient[i] * function.derivative(x[i], first[i], second[i])
      }
    }
  }
}

extension UnaryFunction {
  /// Functions whose values ``derivative(_:_:_:)`` takes.
  fileprivate var partsOfDerivative: [UnaryFunction] {
    switch self {
    case .elu, .selu, .celu: [.exponential]
    case .silu: [.sigmoid]
    case .erf: [.exponential]
    case .gelu: [.erf, .exponential]
    case .geluTanh: [.tanh]
    case .softplus: [.sigmoid]
    case .mish: [.softplus, .sigmoid]
    case .sine: [.cosine]
    case .cosine: [.sine]
    case .tangent: [.tangent]
    default: []
    }
  }

  /// What part `index` is applied to.
  @inline(__always)
  fileprivate func argument(_ index: Int, _ x: Float) -> Float {
    switch self {
    case .erf: -x * x
    case .gelu: index == 0 ? x * 0x1.6a09e6p-1 : -0.5 * x * x
    case .geluTanh: (x * x * x * 0x1.6e4e26p-5 + x) * 0x1.988454p-1
    case .celu(let alpha): min(x / alpha, 0)
    // Not used for positive x, where it might overflow.
    case .elu, .selu: min(x, 0)
    default: x
    }
  }

  /// f′(x), given the values of ``partsOfDerivative``.
  @inline(__always)
  fileprivate func derivative(_ x: Float, _ first: Float, _ second: Float) -> Float {
    switch self {
    case .leakyRelu(let slope): return x < 0 ? slope : 1
    case .clip(let minimum, let maximum): return x > minimum && x < maximum ? 1 : 0
    case .thresholdedRelu(let threshold): return x <= threshold ? 0 : 1
    case .elu(let alpha): return x > 0 ? 1 : first * alpha
    case .selu(let alpha, let gamma): return (x > 0 ? 1 : first * alpha) * gamma
    case .celu: return x > 0 ? 1 : first
    case .hardSigmoid(let alpha, let beta):
      let y = x * alpha + beta
      return y > 0 && y < 1 ? alpha : 0
    case .hardSwish: return x <= -3 ? 0 : x >= 3 ? 1 : x * 0x1.555556p-2 + 0.5
    case .silu: return first * (1 + x * (1 - first))
    // 2/√π · e^(−x²)
    case .erf: return first * 0x1.20dd76p0
    // (1 + erf(x/√2)) / 2 + x · e^(−x²/2) / √(2π)
    case .gelu: return 0.5 * (1 + first) + x * second * 0x1.988454p-2
    case .geluTanh:
      let inner = (3 * x * x * 0x1.6e4e26p-5 + 1) * 0x1.988454p-1
      return 0.5 * (1 + first) + 0.5 * x * (1 - first * first) * inner
    case .softplus: return first
    case .softsign:
      let root = 1 + x.magnitude
      return 1 / (root * root)
    case .mish:
      // tanh(s) = 1 − 2 / (e^(2s) + 1) with e^s = 1 / (1 − sigmoid(x)), s = softplus(x).
      let rest = 1 - second
      let square = rest * rest
      let tanh = (1 - square) / (1 + square)
      return tanh + x * (1 - tanh * tanh) * second
    case .logarithm: return 1 / x
    case .square: return 2 * x
    case .absolute: return x < 0 ? -1 : x > 0 ? 1 : 0
    case .sine: return first
    case .cosine: return -first
    case .tangent: return 1 + first * first
    default: return 0
    }
  }
}

/// For y = f(a, b), with broadcasting: ∂a = ∂y · ∂f/∂a and ∂b = ∂y · ∂f/∂b, each summed over the axes
/// along which it was broadcast. For minimum and maximum, the operand that was taken gets all.
extension Binary: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let (left, right) = (try node.shape(0), try node.shape(1))
    let output = try node.outputShape()
    let count = output.reduce(1, *)
    var scratch = ScratchParts()
    let leftSum = node.isWanted(0) ? try AddedSum(output, to: left, node, &scratch) : nil
    let rightSum = node.isWanted(1) ? try AddedSum(output, to: right, node, &scratch) : nil
    let function = function
    let spread = function.readsOperands ? try Spread(left, right, output, node, &scratch) : nil
    let logarithm =
      function == .power && node.isWanted(1)
      ? try node.prepared(.unary(Unary(.logarithm)), [[count]]) : nil
    let power =
      function == .power ? try node.prepared(.binary(Binary(.power)), [[count], [count]]) : nil
    let (product, extra) = (scratch.floats(count), scratch.floats(power == nil ? 0 : count))
    let work = scratch.bytes(
      [logarithm, power].compactMap { $0?.scratchByteCount(threads: node.threadCount) }.max() ?? 0)
    return GradientKernel(
      reading: function.readsOperands ? [0, 1] : [], scratchByteCount: scratch.byteCount
    ) { (memory) throws(QMError) in
      let gradient = memory.outputGradients[0]!
      let result = memory.scratch.floats(at: product)
      let operands = try spread?.run(memory)
      let extra = memory.scratch.floats(at: extra)
      for (position, sum) in [leftSum, rightSum].enumerated() {
        guard let sum, let target = memory.inputGradients[position] else { continue }
        if function == .add || (function == .subtract && position == 0) {
          try sum.run(gradient, to: target, memory)
          continue
        }
        let (a, b) = operands ?? (gradient, gradient)
        if function == .power {
          if position == 0 {
            // a^(b − 1)
            memory.threads.forParts(of: count) { range in for i in range { result[i] = b[i] - 1 } }
            try power?.run(
              [a, result], [extra], scratch: memory.scratch + work, threads: memory.threads)
          } else {
            try logarithm?.run(
              [a], [result], scratch: memory.scratch + work, threads: memory.threads)
            try power?.run(
              [a, b], [extra], scratch: memory.scratch + work, threads: memory.threads)
            memory.threads.forParts(of: count) { range in
              for i in range { extra[i] = a[i] > 0 ? extra[i] * result[i] : 0 }
            }
          }
        }
        memory.threads.forParts(of: count) { range in
          function.multiply(gradient, a, b, power: extra, position, into: result, range)
        }
        try sum.run(result, to: target, memory)
      }
    }
  }
}

extension BinaryFunction {
  /// Whether the derivatives depend on the operands.
  fileprivate var readsOperands: Bool { self != .add && self != .subtract }

  /// target = gradient · ∂f/∂operand.
  fileprivate func multiply(
    _ gradient: Floats, _ a: Floats, _ b: Floats, power: Floats, _ position: Int,
    into target: Floats, _ range: Range<Int>
  ) {
    switch (self, position) {
    case (.subtract, _): for i in range { target[i] = -gradient[i] }
    case (.multiply, 0): for i in range { target[i] = gradient[i] * b[i] }
    case (.multiply, _): for i in range { target[i] = gradient[i] * a[i] }
    case (.divide, 0): for i in range { target[i] = gradient[i] / b[i] }
    case (.divide, _): for i in range { target[i] = -gradient[i] * a[i] / (b[i] * b[i]) }
    case (.minimum, 0): for i in range { target[i] = b[i] < a[i] ? 0 : gradient[i] }
    case (.minimum, _): for i in range { target[i] = b[i] < a[i] ? gradient[i] : 0 }
    case (.maximum, 0): for i in range { target[i] = b[i] > a[i] ? 0 : gradient[i] }
    case (.maximum, _): for i in range { target[i] = b[i] > a[i] ? gradient[i] : 0 }
    case (.power, 0): for i in range { target[i] = gradient[i] * b[i] * power[i] }
    case (.power, _): for i in range { target[i] = gradient[i] * power[i] }
    case (.remainder, 0): for i in range { target[i] = gradient[i] }
    case (.remainder, _):
      for i in range { target[i] = -gradient[i] * (a[i] / b[i]).rounded(.towardZero) }
    case (.parametricRelu, 0):
      for i in range { target[i] = a[i] < 0 ? gradient[i] * b[i] : gradient[i] }
    case (.parametricRelu, _): for i in range { target[i] = a[i] < 0 ? gradient[i] * a[i] : 0 }
    case (.add, _): for i in range { target[i] = gradient[i] }
    }
  }
}

/// Both operands of a node in the shape of its output.
private struct Spread {
  private let parts: [(operation: PreparedOperation, stored: Int)?]
  private let work: Int

  init(
    _ left: [Int], _ right: [Int], _ output: [Int], _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    let extents = try Tensor([output.count], output.map(Int64.init))
    var parts: [(operation: PreparedOperation, stored: Int)?] = []
    var work = 0
    for shape in [left, right] {
      guard shape != output else {
        parts.append(nil)
        continue
      }
      let operation = try PreparedOperation(
        .expand(Expand()),
        [
          Operand(ValueType(.float32, Shape(shape))),
          Operand(extents.type, constant: extents),
        ], kernels: node.kernels)
      parts.append((operation, scratch.floats(output.reduce(1, *))))
      work = max(work, operation.scratchByteCount(threads: node.threadCount))
    }
    self.parts = parts
    self.extents = extents
    self.work = scratch.bytes(work)
  }

  private let extents: Tensor

  func run(_ memory: GradientMemory) throws(QMError) -> (Floats, Floats) {
    var operands: [Floats] = []
    for (position, part) in parts.enumerated() {
      guard let part else {
        operands.append(memory.input(position))
        continue
      }
      let target = memory.scratch.floats(at: part.stored)
      try part.operation.run(
        [memory.inputs[position], extents.buffer.base + extents.byteOffset], [target],
        scratch: memory.scratch + work, threads: memory.threads)
      operands.append(target)
    }
    return (operands[0], operands[1])
  }
}

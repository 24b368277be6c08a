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
    @inline(__always)
    func add(_ product: (_ gradient: Float, _ y: Float) -> Float) {
      for i in 0..<count { target[i] += product(gradient[i], y[i]) }
    }
    switch self {
    case .relu: add { $1 > 0 ? $0 : 0 }
    case .leakyRelu(let slope): add { $1 < 0 ? $0 * slope : $0 }
    case .clip(let minimum, let maximum): add { $1 > minimum && $1 < maximum ? $0 : 0 }
    case .sigmoid: add { $0 * ($1 * (1 - $1)) }
    case .tanh: add { $0 * (1 - $1 * $1) }
    case .exponential: add { $0 * $1 }
    case .squareRoot: add { $1 > 0 ? $0 * (0.5 / $1) : 0 }
    case .reciprocal: add { -($0 * ($1 * $1)) }
    case .negate: add { gradient, _ in -gradient }
    case .affine(let scale, _): add { gradient, _ in gradient * scale }
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
        function.writeArguments(index, x, to: argument, range)
      }
      try part.run(
        [argument], [value], scratch: memory.scratch + scratchOffset, threads: memory.threads)
      results.append(value)
    }
    let (first, second) = (results.first ?? x, results.count > 1 ? results[1] : x)
    memory.threads.forParts(of: count) { range in
      function.addGradient(gradient, at: x, first, second, to: target, range)
    }
  }
}

extension UnaryFunction {
  /// Functions whose values ``addGradient(_:at:_:_:to:_:)`` takes.
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

  /// Writes what part `index` is applied to.
  fileprivate func writeArguments(
    _ index: Int, _ x: Floats, to target: Floats, _ range: Range<Int>
  ) {
    @inline(__always)
    func write(_ argument: (_ x: Float) -> Float) {
      for i in range { target[i] = argument(x[i]) }
    }
    switch self {
    case .erf: write { -$0 * $0 }
    case .gelu where index == 0: write { $0 * 0x1.6a09e6p-1 }
    case .gelu: write { -0.5 * $0 * $0 }
    case .geluTanh: write { ($0 * $0 * $0 * 0x1.6e4e26p-5 + $0) * 0x1.988454p-1 }
    case .celu(let alpha): write { min($0 / alpha, 0) }
    // Not used for positive x, where it might overflow.
    case .elu, .selu: write { min($0, 0) }
    default: write { $0 }
    }
  }

  /// Adds gradient · f′(x), given the values of ``partsOfDerivative``.
  fileprivate func addGradient(
    _ gradient: Floats, at x: Floats, _ first: Floats, _ second: Floats, to target: Floats,
    _ range: Range<Int>
  ) {
    @inline(__always)
    func add(_ derivative: (_ x: Float, _ first: Float, _ second: Float) -> Float) {
      for i in range { target[i] += gradient[i] * derivative(x[i], first[i], second[i]) }
    }
    switch self {
    case .leakyRelu(let slope): add { x, _, _ in x < 0 ? slope : 1 }
    case .clip(let minimum, let maximum):
      add { x, _, _ in x > minimum && x < maximum ? 1 : 0 }
    case .thresholdedRelu(let threshold): add { x, _, _ in x <= threshold ? 0 : 1 }
    case .elu(let alpha): add { x, power, _ in x > 0 ? 1 : power * alpha }
    case .selu(let alpha, let gamma): add { x, power, _ in (x > 0 ? 1 : power * alpha) * gamma }
    case .celu: add { x, power, _ in x > 0 ? 1 : power }
    case .hardSigmoid(let alpha, let beta):
      add { x, _, _ in
        let y = x * alpha + beta
        return y > 0 && y < 1 ? alpha : 0
      }
    case .hardSwish:
      add { x, _, _ in x <= -3 ? 0 : x >= 3 ? 1 : x * 0x1.555556p-2 + 0.5 }
    case .silu: add { x, sigmoid, _ in sigmoid * (1 + x * (1 - sigmoid)) }
    // 2/√π · e^(−x²)
    case .erf: add { _, power, _ in power * 0x1.20dd76p0 }
    // (1 + erf(x/√2)) / 2 + x · e^(−x²/2) / √(2π)
    case .gelu: add { x, erf, power in 0.5 * (1 + erf) + x * power * 0x1.988454p-2 }
    case .geluTanh:
      add { x, tanh, _ in
        let inner = (3 * x * x * 0x1.6e4e26p-5 + 1) * 0x1.988454p-1
        return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner
      }
    case .softplus: add { _, sigmoid, _ in sigmoid }
    case .softsign:
      add { x, _, _ in
        let root = 1 + x.magnitude
        return 1 / (root * root)
      }
    case .mish:
      // tanh(s) = 1 − 2 / (e^(2s) + 1) with e^s = 1 / (1 − sigmoid(x)), s = softplus(x).
      add { x, _, sigmoid in
        let rest = 1 - sigmoid
        let square = rest * rest
        let tanh = (1 - square) / (1 + square)
        return tanh + x * (1 - tanh * tanh) * sigmoid
      }
    case .logarithm: add { x, _, _ in 1 / x }
    case .square: add { x, _, _ in 2 * x }
    case .absolute: add { x, _, _ in x < 0 ? -1 : x > 0 ? 1 : 0 }
    case .sine: add { _, cosine, _ in cosine }
    case .cosine: add { _, sine, _ in -sine }
    case .tangent: add { _, tangent, _ in 1 + tangent * tangent }
    default: break
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
    @inline(__always)
    func write(_ product: (_ gradient: Float, _ a: Float, _ b: Float) -> Float) {
      for i in range { target[i] = product(gradient[i], a[i], b[i]) }
    }
    @inline(__always)
    func writeWithPower(_ product: (_ gradient: Float, _ b: Float, _ power: Float) -> Float) {
      for i in range { target[i] = product(gradient[i], b[i], power[i]) }
    }
    switch (self, position) {
    case (.add, _): write { gradient, _, _ in gradient }
    case (.subtract, _): write { gradient, _, _ in -gradient }
    case (.multiply, 0): write { gradient, _, b in gradient * b }
    case (.multiply, _): write { gradient, a, _ in gradient * a }
    case (.divide, 0): write { gradient, _, b in gradient / b }
    case (.divide, _): write { gradient, a, b in -gradient * a / (b * b) }
    case (.minimum, 0): write { gradient, a, b in b < a ? 0 : gradient }
    case (.minimum, _): write { gradient, a, b in b < a ? gradient : 0 }
    case (.maximum, 0): write { gradient, a, b in b > a ? 0 : gradient }
    case (.maximum, _): write { gradient, a, b in b > a ? gradient : 0 }
    case (.power, 0): writeWithPower { gradient, b, power in gradient * b * power }
    case (.power, _): writeWithPower { gradient, _, power in gradient * power }
    case (.remainder, 0): write { gradient, _, _ in gradient }
    case (.remainder, _): write { gradient, a, b in -gradient * (a / b).rounded(.towardZero) }
    case (.parametricRelu, 0): write { gradient, a, b in a < 0 ? gradient * b : gradient }
    case (.parametricRelu, _): write { gradient, a, _ in a < 0 ? gradient * a : 0 }
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

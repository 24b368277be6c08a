import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// One input of an operation under test.
struct TestOperand {
  var type: ValueType
  var tensor: Tensor
  /// Whether the operation knows the elements before the run.
  var isConstant = false

  init(_ tensor: Tensor, _ quantization: Quantization = .none, isConstant: Bool = false) {
    self.tensor = tensor
    self.isConstant = isConstant
    type = ValueType(tensor.elementType, Shape(tensor.shape), quantization)
  }

  var operand: Operand { Operand(type, constant: isConstant ? tensor : nil) }

  var view: TensorView {
    TensorView(
      tensor.elementType, tensor.shape, type.quantization,
      base: tensor.buffer.base + tensor.byteOffset)
  }
}

/// What the reference loops make of the inputs.
func referenceOutputs(_ operation: any OperationProtocol, _ inputs: [TestOperand?]) throws
  -> [Tensor]
{
  let types = try operation.outputTypes(for: inputs.map { $0?.operand })
  let outputs = try types.map { type in
    try TestOperand(Tensor(zeros: type.elementType, type.shape.extents!), type.quantization)
  }
  try operation.reference(inputs.map { $0?.view }, outputs.map(\.view))
  return outputs.map(\.tensor)
}

/// What the kernel of a set makes of the inputs; nil where it has none. Scratch memory and outputs
/// hold garbage before, and nothing may be written behind them.
/// - Parameter permutation: of a Transpose that the kernel does as well.
func kernelOutputs(
  _ operation: any OperationProtocol, _ inputs: [TestOperand?], _ set: KernelSet,
  _ threads: ThreadPool, transposing permutation: [Int]? = nil
) throws -> [Tensor]? {
  let operands = inputs.map { $0?.operand }
  var types = try operation.outputTypes(for: operands)
  let packed = try operation.pack(operands, for: set, .fastest)
  let found: Kernel?
  if let permutation {
    found = try operation.kernel(
      for: operands, outputs: types, packed: packed, kernels: set, transposing: permutation)
    types = try Transpose(permutation: permutation).outputTypes(for: types.map { Operand($0) })
  } else {
    found = try operation.kernel(for: operands, outputs: types, packed: packed, kernels: set)
  }
  guard let kernel = found else { return nil }
  let guardCount = 128
  let scratchCount = kernel.scratchByteCount(threads.threadCount)
  let scratch = try Buffer.allocate(byteCount: scratchCount + guardCount)
  for index in 0..<(scratchCount + guardCount) {
    scratch.base.storeBytes(of: 0xA5, toByteOffset: index, as: UInt8.self)
  }
  let outputs = try types.map { type in
    let count = try Tensor.byteCount(of: type.elementType, type.shape.extents!)
    let buffer = try Buffer.allocate(byteCount: count + guardCount)
    for index in 0..<(count + guardCount) {
      buffer.base.storeBytes(of: 0x5A, toByteOffset: index, as: UInt8.self)
    }
    return try Tensor(type.elementType, type.shape.extents!, buffer: buffer)
  }
  let inputPointers = inputs.map { $0.map { $0.tensor.buffer.base + $0.tensor.byteOffset } }
  let outputPointers = outputs.map { Optional($0.buffer.base) }
  try inputPointers.withUnsafeBufferPointer { (inputPointers) throws(QMError) in
    try outputPointers.withUnsafeBufferPointer { (outputPointers) throws(QMError) in
      try kernel.run(
        Kernel.Memory(
          inputs: inputPointers, outputs: outputPointers, scratch: scratch.base, threads: threads))
    }
  }
  for index in scratchCount..<(scratchCount + guardCount) {
    #expect(scratch.bytes[index] == 0xA5, "\(kernel.name) writes behind its scratch memory")
  }
  for output in outputs {
    for index in output.byteCount..<(output.byteCount + guardCount) {
      #expect(output.buffer.bytes[index] == 0x5A, "\(kernel.name) writes behind its output")
    }
  }
  return outputs
}

let testPools = [1, 2, 3].map(ThreadPool.init(threadCount:))

/// Expects every kernel set to have a kernel that gives the bits of the reference loops, with
/// 1, 2 and 3 threads.
func expectKernelsEqualReference(
  _ operation: any OperationProtocol, _ inputs: [TestOperand?], _ description: String
) throws {
  let expected = try referenceOutputs(operation, inputs)
  for set in KernelSet.available where set != .reference {
    for pool in testPools {
      guard let outputs = try kernelOutputs(operation, inputs, set, pool) else {
        Issue.record("no \(set) kernel: \(description)")
        continue
      }
      for (output, expected) in zip(outputs, expected) {
        #expect(
          output.isIdentical(to: expected),
          "\(set), \(pool.threadCount) threads: \(description)")
      }
    }
  }
  try expectTransposingKernelsEqualReference(operation, inputs, expected, description)
}

/// The permutations from channels last to channels first and back.
func edgePermutations(rank: Int) -> [[Int]] {
  guard rank >= 3 else { return [] }
  return [[0, rank - 1] + Array(1..<(rank - 1)), [0] + Array(2..<rank) + [1]]
}

/// The same of the kernels that rearrange the output as well, where there are any.
private func expectTransposingKernelsEqualReference(
  _ operation: any OperationProtocol, _ inputs: [TestOperand?], _ expected: [Tensor],
  _ description: String
) throws {
  guard expected.count == 1 else { return }
  for permutation in edgePermutations(rank: expected[0].shape.count) {
    let moved = try referenceOutputs(
      Transpose(permutation: permutation), [TestOperand(expected[0])])
    for set in KernelSet.available where set != .reference {
      for pool in testPools {
        guard
          let outputs = try kernelOutputs(
            operation, inputs, set, pool, transposing: permutation)
        else { break }
        #expect(
          outputs[0].isIdentical(to: moved[0]),
          "\(set), \(pool.threadCount) threads, \(permutation): \(description)")
      }
    }
  }
}

extension SeededGenerator {
  mutating func floats(_ shape: [Int], in range: ClosedRange<Float> = -2...2) throws -> Tensor {
    let count = shape.reduce(1, *)
    return try Tensor(shape, (0..<count).map { _ in Float.random(in: range, using: &self) })
  }

  mutating func codes(_ shape: [Int], in range: ClosedRange<Int32> = -128...127) throws -> Tensor {
    let count = shape.reduce(1, *)
    return try Tensor(shape, (0..<count).map { _ in Int8(Int32.random(in: range, using: &self)) })
  }

  mutating func integers(_ shape: [Int], in range: ClosedRange<Int32>) throws -> Tensor {
    let count = shape.reduce(1, *)
    return try Tensor(shape, (0..<count).map { _ in Int32.random(in: range, using: &self) })
  }

  /// Scale and zero point for each of `leading`.
  mutating func parameters(_ leading: [Int]) throws -> Tensor {
    let count = leading.reduce(1, *)
    return try Tensor(
      leading + [2],
      (0..<count).flatMap { _ in
        [
          Float.random(in: 0.001...0.1, using: &self),
          Float(Int.random(in: -128...127, using: &self)),
        ]
      })
  }

  mutating func one<Element>(of elements: [Element]) -> Element {
    elements[Int.random(in: elements.indices, using: &self)]
  }

  mutating func coin() -> Bool { Bool.random(using: &self) }
}

/// Which of the ways a product can be put together a random one is.
struct ProductCase: CustomStringConvertible {
  /// `wide`: int16 codes around 0.
  enum Arithmetic { case float, fixed, wide, dynamic }
  enum Bias { case none, integer, real }

  var arithmetic: Arithmetic
  var bits: Int
  var perChannel: Bool
  var bias: Bias
  var residual: ElementType?
  var epilogue: Epilogue
  /// Whether all codes are the most extreme ones.
  var isExtreme: Bool

  init(_ generator: inout SeededGenerator, _ arithmetic: Arithmetic) {
    self.arithmetic = arithmetic
    bits = Int.random(in: 2...8, using: &generator)
    perChannel = generator.coin()
    bias = generator.one(
      of: arithmetic == .fixed || arithmetic == .wide ? [.none, .integer, .real] : [.none, .real])
    residual = generator.one(of: [nil, nil, .float32, .int8])
    let function: UnaryFunction? = generator.one(
      of: [nil, nil, .relu, .clip(minimum: -1, maximum: 6), .hardSwish, .sigmoid, .gelu])
    let output: OutputEncoding = generator.one(
      of: [
        .float32, .quantized(.int8, scale: 0.37, zeroPoint: -7),
        .quantized(.int8, scale: 0.05, zeroPoint: 127),
        .quantized(.int16, scale: 0.001, zeroPoint: 300),
      ])
    let then: UnaryFunction? = generator.one(
      of: [nil, nil, nil, .affine(scale: 1.7, offset: -0.3), .relu, .tanh])
    epilogue = Epilogue(function: function, secondFunction: then, output: output)
    isExtreme = Int.random(in: 0..<8, using: &generator) == 0
  }

  var description: String {
    "\(arithmetic) \(bits) bits, per channel \(perChannel), bias \(bias), residual \(String(describing: residual)), \(epilogue), extreme \(isExtreme)"
  }

  /// The inputs of a product by position.
  func inputs(
    _ generator: inout SeededGenerator, input: [Int], weights: [Int], output: [Int],
    channels: Int, channelAxis: Int, parameters: [Int], constantWeights: Bool
  ) throws -> [TestOperand?] {
    var operands = [TestOperand?](repeating: nil, count: 6)
    switch arithmetic {
    case .float:
      operands[0] = TestOperand(try generator.floats(input))
      operands[1] = TestOperand(try generator.floats(weights), isConstant: constantWeights)
    case .wide, .fixed, .dynamic:
      let zeroPoint: Int32 =
        isExtreme
        ? generator.one(of: [-128, 127]) : Int32.random(in: -128...127, using: &generator)
      let quantization: Quantization =
        arithmetic == .fixed
        ? .fixed(scale: 0.021, zeroPoint: zeroPoint) : .dynamic(axes: parameters.count)
      let codes = BitWidth(bits)!.allCodes
      if arithmetic == .wide {
        let code: Int16 = generator.one(of: [-32768, 32767])
        let elements = (0..<input.reduce(1, *)).map { _ in
          isExtreme ? code : Int16.random(in: -32768...32767, using: &generator)
        }
        operands[0] = TestOperand(
          try Tensor(input, elements), .fixed(scale: 0.0001, zeroPoint: 0))
      } else {
        let code: Int32 = generator.one(of: [-128, 127])
        operands[0] = TestOperand(
          try generator.codes(input, in: isExtreme ? code...code : -128...127), quantization)
      }
      operands[1] = TestOperand(
        try generator.codes(weights, in: isExtreme ? codes.lowerBound...codes.lowerBound : codes),
        .weights(
          bits: BitWidth(bits)!,
          granularity: perChannel ? .perChannel(axis: channelAxis) : .perTensor),
        isConstant: constantWeights)
      operands[3] = TestOperand(
        try generator.floats([perChannel ? channels : 1], in: 0.001...0.01), isConstant: true)
      if arithmetic == .dynamic {
        operands[4] = TestOperand(try generator.parameters(parameters))
      }
    }
    switch bias {
    case .none: break
    case .integer:
      operands[2] = TestOperand(
        try generator.integers([channels], in: -70_000...70_000), isConstant: true)
    case .real: operands[2] = TestOperand(try generator.floats([channels]), isConstant: true)
    }
    switch residual {
    case .float32: operands[5] = TestOperand(try generator.floats(output))
    case .int8:
      operands[5] = TestOperand(
        try generator.codes(output), .fixed(scale: 0.03, zeroPoint: 11))
    default: break
    }
    return operands
  }
}

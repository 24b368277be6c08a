import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// A tensor given to an operation under test.
struct Given {
  let tensor: Tensor
  let quantization: Quantization

  init(_ tensor: Tensor, _ quantization: Quantization = .none) {
    self.tensor = tensor
    self.quantization = quantization
  }

  init<Element: TensorElement>(_ shape: [Int], _ elements: [Element]) throws(QMError) {
    self.init(try Tensor(shape, elements))
  }

  /// int64 `[k]`.
  static func integers(_ values: [Int]) throws(QMError) -> Given {
    try Given([values.count], values.map { Int64($0) })
  }
}

extension OperationProtocol {
  /// The types of the outputs. All inputs are constants.
  func types(for inputs: [Given?]) throws(QMError) -> [ValueType] {
    try outputTypes(for: operands(inputs))
  }

  private func operands(_ inputs: [Given?]) -> [Operand?] {
    inputs.map { given in
      given.map { given in
        let type = ValueType(
          given.tensor.elementType, Shape(given.tensor.shape), given.quantization)
        return Operand(type, constant: given.tensor)
      }
    }
  }

  /// The outputs of the reference loops, which the kernels of every set on one thread and on three
  /// must equal bit for bit. Outputs and scratch memory lie between bytes that must not change.
  /// - Parameter needsKernel: whether the best set must have a kernel of its own.
  func run(
    _ inputs: [Given?], needsKernel: Bool = true,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> [Tensor] {
    let operands = operands(inputs)
    let types = try outputTypes(for: operands)
    let expected = try types.map { try GuardedMemory($0.elementType, $0.shape.extents!) }
    try reference(
      inputs.map { given in
        given.map {
          TensorView(
            $0.tensor.elementType, $0.tensor.shape, $0.quantization,
            base: $0.tensor.buffer.base + $0.tensor.byteOffset)
        }
      }, zip(types, expected).map { TensorView($0.elementType, $1.tensor.shape, $0.quantization, base: $1.base) })
    #expect(expected.allSatisfy { $0.isIntact }, "reference loops", sourceLocation: sourceLocation)

    for set in KernelSet.available {
      guard
        let kernel = try kernel(
          for: operands, outputs: types, packed: try pack(operands, for: set), kernels: set)
      else {
        #expect(!needsKernel || set == .reference, "no \(set) kernel", sourceLocation: sourceLocation)
        continue
      }
      for threadCount in [1, 3] {
        let threads = ThreadPool(threadCount: threadCount)
        let outputs = try types.map { try GuardedMemory($0.elementType, $0.shape.extents!) }
        let scratch = try GuardedMemory(.uint8, [kernel.scratchByteCount(threadCount)])
        let inputPointers = inputs.map { $0.map { $0.tensor.buffer.base + $0.tensor.byteOffset } }
        let outputPointers = outputs.map { Optional($0.base) }
        try inputPointers.withUnsafeBufferPointer { inputPointers in
          try outputPointers.withUnsafeBufferPointer { outputPointers in
            try kernel.run(
              Kernel.Memory(
                inputs: inputPointers, outputs: outputPointers, scratch: scratch.base,
                threads: threads))
          }
        }
        for (output, expected) in zip(outputs, expected) {
          #expect(
            output.tensor.isIdentical(to: expected.tensor),
            "\(self) on \(inputs.map { $0?.tensor.description ?? "-" }), \(kernel.name), \(threadCount) threads",
            sourceLocation: sourceLocation)
        }
        #expect(
          (outputs + [scratch]).allSatisfy { $0.isIntact }, "\(self), \(kernel.name) wrote outside",
          sourceLocation: sourceLocation)
      }
    }
    return expected.map(\.tensor)
  }
}

/// A tensor between two stretches of known bytes.
private struct GuardedMemory {
  private static let guardCount = 256
  private static let mark: UInt8 = 0xA5
  let tensor: Tensor
  var base: UnsafeMutableRawPointer { tensor.buffer.base + tensor.byteOffset }

  init(_ elementType: ElementType, _ shape: [Int]) throws(QMError) {
    let size = try Tensor.byteCount(of: elementType, shape)
    let buffer = try Buffer.allocate(byteCount: size + 2 * Self.guardCount)
    buffer.base.initializeMemory(as: UInt8.self, repeating: Self.mark, count: buffer.count)
    tensor = try Tensor(elementType, shape, buffer: buffer, byteOffset: Self.guardCount)
  }

  var isIntact: Bool {
    tensor.buffer.bytes.prefix(Self.guardCount).allSatisfy { $0 == Self.mark }
      && tensor.buffer.bytes.suffix(Self.guardCount).allSatisfy { $0 == Self.mark }
  }
}

extension SeededGenerator {
  /// Floats in −4…4 with a few zeros of either sign.
  mutating func floats(_ shape: [Int]) throws(QMError) -> Tensor {
    let count = shape.reduce(1, *)
    var elements: [Float] = []
    for _ in 0..<count {
      switch next() % 16 {
      case 0: elements.append(0)
      case 1: elements.append(-0.0)
      default: elements.append(Float.random(in: -4...4, using: &self))
      }
    }
    return try Tensor(shape, elements)
  }

  /// Elements of random bytes.
  mutating func bytes(_ elementType: ElementType, _ shape: [Int]) throws(QMError) -> Tensor {
    let tensor = try Tensor(zeros: elementType, shape)
    for offset in 0..<tensor.byteCount {
      tensor.buffer.base.storeBytes(
        of: UInt8.random(in: 0...255, using: &self), toByteOffset: offset, as: UInt8.self)
    }
    return tensor
  }
}

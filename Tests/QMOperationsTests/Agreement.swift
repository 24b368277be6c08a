import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// A tensor given to an operation under test, and what its elements stand for.
typealias Given = TestOperand

extension TestOperand {
  init<Element: TensorElement>(
    _ shape: [Int], _ elements: [Element], _ quantization: Quantization = .none
  ) throws(QMError) {
    self.init(try Tensor(shape, elements), quantization, isConstant: true)
  }

  /// int64 `[k]`, known before the run.
  static func integers(_ values: [Int]) throws(QMError) -> TestOperand {
    try TestOperand([values.count], values.map { Int64($0) })
  }
}

extension OperationProtocol {
  /// The types of the outputs.
  func types(for inputs: [TestOperand?]) throws(QMError) -> [ValueType] {
    try outputTypes(for: inputs.map { $0?.operand })
  }

  /// The outputs of the reference loops, which the kernels of every set must equal bit for bit.
  func run(_ inputs: [TestOperand?]) throws -> [Tensor] {
    try expectKernelsEqualReference(
      self, inputs, "\(self) on \(inputs.map { $0?.type.description ?? "-" })")
    return try referenceOutputs(self, inputs)
  }
}

extension SeededGenerator {
  /// Numbers in −4…4 with zeros of either sign among them.
  mutating func numbers(_ shape: [Int]) throws -> Tensor {
    var elements: [Float] = []
    for _ in 0..<shape.reduce(1, *) {
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

extension OutputEncoding {
  /// One encoding of each kind.
  static let samples: [OutputEncoding] = [
    .float32, .quantized(.int8, scale: 0.03, zeroPoint: -5),
    .quantized(.int16, scale: 0.0007, zeroPoint: 100),
  ]
}

/// Element types of codes with a grid each.
let codeTypes: [(ElementType, Quantization)] = [
  (.int8, .fixed(scale: 0.05, zeroPoint: 3)), (.uint8, .fixed(scale: 0.02, zeroPoint: 131)),
  (.int16, .fixed(scale: 0.0004, zeroPoint: -77)),
]

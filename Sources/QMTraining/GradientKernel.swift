import QMOperations
import QMTensor

/// Addresses of float32 elements.
package typealias Floats = UnsafeMutablePointer<Float>

/// A node as its gradient sees it: everything has concrete shapes.
package struct GradientNode {
  /// Types of the operands, and the elements of those that are the same in every run.
  package let operands: [Operand?]
  /// Types of the outputs.
  package let outputs: [ValueType]
  /// For each operand, whether its gradient is wanted.
  package let wanted: [Bool]
  /// For each output, whether the loss depends on it.
  package let isUsed: [Bool]
  package let kernels: KernelSet
  package let threadCount: Int
  /// See ``TrainingPass/Options/throughTime``.
  package var throughTime = 0

  /// The shape of an operand.
  /// - Throws: `internalFault` if it is absent.
  package func shape(_ position: Int) throws(QMError) -> [Int] {
    guard position < operands.count, let extents = operands[position]?.type.shape.extents else {
      throw .internalFault("operand \(position) has no shape")
    }
    return extents
  }

  /// Whether the gradient of an operand is wanted; false beyond the last one.
  package func isWanted(_ position: Int) -> Bool { position < wanted.count && wanted[position] }

  /// The shape of an output.
  /// - Throws: `internalFault` if it is unknown.
  package func outputShape(_ position: Int = 0) throws(QMError) -> [Int] {
    guard position < outputs.count, let extents = outputs[position].shape.extents else {
      throw .internalFault("output \(position) has no shape")
    }
    return extents
  }

  /// An operation that is a part of this gradient.
  package func prepared(_ operation: Operation, _ shapes: [[Int]?]) throws(QMError)
    -> PreparedOperation
  {
    try PreparedOperation(operation, shapes: shapes, kernels: kernels)
  }
}

/// The memory of one run of a gradient.
package struct GradientMemory {
  /// Elements of the operands. Undefined for those that the kernel did not ask for.
  package let inputs: [UnsafeMutableRawPointer?]
  /// Elements of the outputs. Undefined for those that the kernel did not ask for.
  package let outputs: [UnsafeMutableRawPointer?]
  /// ∂loss/∂output; nil for an output that the loss does not depend on.
  package let outputGradients: [Floats?]
  /// ∂loss/∂input, to which the kernel adds; nil where it is not wanted.
  package let inputGradients: [Floats?]
  package let scratch: UnsafeMutableRawPointer
  package let threads: ThreadPool

  /// Float32 elements of an operand that the kernel asked for.
  package func input(_ position: Int) -> Floats {
    inputs[position]!.assumingMemoryBound(to: Float.self)
  }

  /// Float32 elements of an output that the kernel asked for.
  package func output(_ position: Int = 0) -> Floats {
    outputs[position]!.assumingMemoryBound(to: Float.self)
  }
}

/// The gradient of one node, prepared for concrete shapes. Given ∂loss/∂output, it adds to
/// ∂loss/∂input for each input.
package struct GradientKernel {
  /// Operands whose elements the kernel reads.
  package var readInputs: Set<Int>
  /// Outputs whose elements the kernel reads.
  package var readOutputs: Set<Int>
  package var scratchByteCount: Int
  package var run: (GradientMemory) throws(QMError) -> Void

  package init(
    reading inputs: Set<Int> = [], outputs: Set<Int> = [], scratchByteCount: Int = 0,
    run: @escaping (GradientMemory) throws(QMError) -> Void
  ) {
    readInputs = inputs
    readOutputs = outputs
    self.scratchByteCount = scratchByteCount
    self.run = run
  }
}

/// An operation with a gradient.
package protocol Differentiable: OperationProtocol {
  /// The gradient for a node with at least one wanted operand and one used output. Operands that are
  /// not float32 are never wanted.
  /// - Throws: `unsupported` for attributes without a gradient.
  func gradient(of node: GradientNode) throws(QMError) -> GradientKernel
}

/// Scratch memory in parts, each aligned for the kernels.
package struct ScratchParts {
  package private(set) var byteCount = 0

  package init() {}

  /// Reserves the next `count` float32 elements.
  /// - Returns: the offset in bytes.
  package mutating func floats(_ count: Int) -> Int { bytes(4 * count) }

  /// Reserves the next `count` bytes.
  /// - Returns: the offset in bytes.
  package mutating func bytes(_ count: Int) -> Int {
    defer { byteCount += (count + Buffer.alignment - 1) / Buffer.alignment * Buffer.alignment }
    return byteCount
  }
}

extension UnsafeMutableRawPointer {
  /// Float32 elements at an offset in bytes.
  package func floats(at offset: Int) -> Floats {
    (self + offset).assumingMemoryBound(to: Float.self)
  }
}

extension ThreadPool {
  /// Elements of one chunk of an element-wise loop.
  private static let chunkLength = 1 << 14

  /// Calls `body` for consecutive parts of `0..<count`. The parts do not depend on the number of
  /// threads.
  package func forParts(of count: Int, _ body: (_ range: Range<Int>) -> Void) {
    let length = ThreadPool.chunkLength
    run(chunks: (count + length - 1) / length) { (chunk, _) in
      body(chunk * length..<min((chunk + 1) * length, count))
    }
  }
}

extension Floats {
  /// 16 elements; 0 from `end` on.
  @inline(__always)
  package func lanes(_ start: Int, end: Int) -> SIMD16<Float> {
    if start + 16 <= end {
      return UnsafeRawPointer(self + start).loadUnaligned(as: SIMD16<Float>.self)
    }
    var result = SIMD16<Float>()
    for index in start..<end { result[index - start] = self[index] }
    return result
  }

  /// Replaces up to 16 elements, those in front of `end`.
  @inline(__always)
  package func setLanes(_ lanes: SIMD16<Float>, _ start: Int, end: Int) {
    if start + 16 <= end {
      UnsafeMutableRawPointer(self + start).storeBytes(of: lanes, as: SIMD16<Float>.self)
    } else {
      for index in start..<end { self[index] = lanes[index - start] }
    }
  }

  /// Adds the elements of another array.
  package func add(_ other: UnsafePointer<Float>, count: Int, _ threads: ThreadPool) {
    threads.forParts(of: count) { range in
      let (target, source) = (self + range.lowerBound, other + range.lowerBound)
      for index in 0..<range.count { target[index] += source[index] }
    }
  }
}

extension SIMD16<Float> {
  var sumInHalves: Float {
    let eight = lowHalf + highHalf
    let four = eight.lowHalf + eight.highHalf
    let two = four.lowHalf + four.highHalf
    return two[0] + two[1]
  }
}

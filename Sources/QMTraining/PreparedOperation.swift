import QMOperations
import QMTensor

/// An operation prepared to run many times on fixed shapes, with the kernels that run it in a file.
///
/// Forward runs and gradients are made of these, so that training computes what the file computes.
package struct PreparedOperation {
  private let kernel: Kernel
  /// Types of the outputs, with concrete shapes.
  package let outputTypes: [ValueType]
  /// Constants rearranged for the kernel; the kernel reads them.
  private let packed: PackedWeights?

  /// - Parameter operands: with concrete shapes; nil for an absent one. Constants must be among them
  ///   only where they stay the same in every run.
  /// - Throws: errors of the type rule; `unsupported` if the shape of an output depends on data.
  package init(
    _ operation: Operation, _ operands: [Operand?], kernels: KernelSet = .best
  ) throws(QMError) {
    outputTypes = try operation.body.outputTypes(for: operands)
    for type in outputTypes where type.shape.extents == nil {
      throw .unsupported("the shape of the result depends on data: \(type.shape)")
    }
    packed = try operation.body.pack(operands, for: kernels, .fastest)
    kernel = try PreparedNode(
      operation, operands: operands, outputs: outputTypes, packed: packed, kernels: kernels
    ).kernel
  }

  /// An operation on float32 operands of these shapes.
  package init(
    _ operation: Operation, shapes: [[Int]?], kernels: KernelSet = .best
  ) throws(QMError) {
    try self.init(
      operation, shapes.map { $0.map { Operand(ValueType(.float32, Shape($0))) } }, kernels: kernels
    )
  }

  /// Bytes of scratch memory that a run needs.
  package func scratchByteCount(threads: Int) -> Int { kernel.scratchByteCount(threads) }

  /// Runs once.
  /// - Parameters:
  ///   - inputs: one address per operand; nil for an absent one.
  ///   - outputs: one address per output.
  ///   - scratch: ``scratchByteCount(threads:)`` bytes.
  package func run(
    _ inputs: [UnsafeMutableRawPointer?], _ outputs: [UnsafeMutableRawPointer?],
    scratch: UnsafeMutableRawPointer, threads: ThreadPool
  ) throws(QMError) {
    try inputs.withUnsafeBufferPointer { (inputs) throws(QMError) in
      try outputs.withUnsafeBufferPointer { (outputs) throws(QMError) in
        try kernel.run(
          Kernel.Memory(inputs: inputs, outputs: outputs, scratch: scratch, threads: threads))
      }
    }
  }
}

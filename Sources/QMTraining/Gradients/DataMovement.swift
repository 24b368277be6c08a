import QMOperations
import QMTensor

/// The gradient of an operation that moves elements: ∂x[j] = Σ over the outputs i that hold x[j]: ∂y[i].
///
/// Where each element comes from is found by moving the numbers of the elements instead of the
/// elements. So one gradient serves every operation of this kind; new ones need nothing.
struct MovementGradient {
  private let operation: Operation
  private let node: GradientNode
  private let moved: [Int]

  /// - Returns: nil for an operation that computes.
  init?(_ operation: Operation, _ node: GradientNode) {
    guard
      case .moved(let positions) = operation.body.elementSource(
        operandCount: node.operands.count),
      !node.outputs.isEmpty, node.outputs.allSatisfy({ $0.elementType == .float32 })
    else { return nil }
    self.operation = operation
    self.node = node
    moved = positions
  }

  func kernel() throws(QMError) -> GradientKernel {
    if operation.body.keepsBytes {
      let count = try node.outputShape().reduce(1, *)
      return GradientKernel { memory in
        memory.inputGradients[0]!.add(memory.outputGradients[0]!, count: count, memory.threads)
      }
    }
    if case .transpose(let transpose) = operation { return try kernel(transpose) }
    var scratch = ScratchParts()
    var parts: [(position: Int, source: SourceNumbers)] = []
    for position in moved where node.isWanted(position) {
      parts.append((position, try SourceNumbers(operation, moved, position, node, &scratch)))
    }
    let (ready, counts) = (
      parts,
      try node.outputs.indices.map { (index) throws(QMError) in
        try node.outputShape(index).reduce(1, *)
      }
    )
    // Operands that decide where elements go are read in each run.
    let deciding = Set(
      node.operands.indices.filter { !moved.contains($0) && node.operands[$0]?.constant == nil })
    return GradientKernel(reading: deciding, scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      for (position, source) in ready {
        guard let target = memory.inputGradients[position] else { continue }
        let numbers = try source.numbers(memory)
        for (output, count) in counts.enumerated() {
          guard let gradient = memory.outputGradients[output] else { continue }
          let places = numbers[output]
          for index in 0..<count where places[index] > 0 {
            target[Int(places[index]) - 1] += gradient[index]
          }
        }
      }
    }
  }

  private func kernel(_ transpose: Transpose) throws(QMError) -> GradientKernel {
    let inverse = AxisOrder(transpose.permutation).places
    let shape = try node.outputShape()
    let back = try node.prepared(.transpose(Transpose(permutation: inverse)), [shape])
    let count = shape.reduce(1, *)
    var scratch = ScratchParts()
    let stored = scratch.floats(count)
    let work = scratch.bytes(back.scratchByteCount(threads: node.threadCount))
    return GradientKernel(scratchByteCount: scratch.byteCount) { (memory) throws(QMError) in
      try back.run(
        [memory.outputGradients[0]!], [memory.scratch + stored], scratch: memory.scratch + work,
        threads: memory.threads)
      memory.inputGradients[0]!.add(
        memory.scratch.floats(at: stored), count: count, memory.threads)
    }
  }
}

/// For each element of the outputs, the number of the element of one operand that it holds, counted
/// from 1; 0 for elements of other operands and for padding.
private final class SourceNumbers {
  private let operation: PreparedOperation
  private let operands: [Tensor?]
  private let outputs: [Tensor]
  private let work: Int
  private var isKnown = false
  /// Whether the numbers are the same in every run.
  private let isConstant: Bool

  init(
    _ operation: Operation, _ moved: [Int], _ position: Int, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    var types: [Operand?] = []
    var tensors: [Tensor?] = []
    var isConstant = true
    for (index, operand) in node.operands.enumerated() {
      guard let operand else {
        types.append(nil)
        tensors.append(nil)
        continue
      }
      // The value that a padding is filled with has the type of the elements.
      var isFilling = false
      if case .pad = operation { isFilling = operand.type.elementType == .float32 }
      if moved.contains(index) || isFilling {
        let shape = operand.type.shape.extents ?? []
        let tensor = try Tensor(zeros: .int32, shape)
        if index == position {
          let elements = tensor.buffer.base.assumingMemoryBound(to: Int32.self)
          guard tensor.elementCount < Int(Int32.max) else {
            throw .unsupported("\(tensor.elementCount) elements are more than training can move")
          }
          for element in 0..<tensor.elementCount { elements[element] = Int32(element) + 1 }
        }
        types.append(Operand(tensor.type, constant: isFilling ? tensor : nil))
        tensors.append(tensor)
      } else {
        types.append(operand)
        tensors.append(operand.constant)
        if operand.constant == nil { isConstant = false }
      }
    }
    self.operation = try PreparedOperation(operation, types, kernels: node.kernels)
    self.isConstant = isConstant
    operands = tensors
    outputs = try self.operation.outputTypes.map { (type) throws(QMError) in
      try Tensor(zeros: .int32, type.shape.extents ?? [])
    }
    work = scratch.bytes(self.operation.scratchByteCount(threads: node.threadCount))
  }

  func numbers(_ memory: GradientMemory) throws(QMError) -> [UnsafeMutablePointer<Int32>] {
    if !isKnown {
      let inputs = operands.enumerated().map { (index, tensor) in
        tensor.map { $0.buffer.base + $0.byteOffset } ?? memory.inputs[index]
      }
      try operation.run(
        inputs, outputs.map { $0.buffer.base }, scratch: memory.scratch + work,
        threads: memory.threads)
      isKnown = isConstant
    }
    return outputs.map { $0.buffer.base.assumingMemoryBound(to: Int32.self) }
  }
}

import QMOperations
import QMTensor

/// The gradient of an operation that moves elements: ∂x[j] = Σ over the outputs i that hold x[j]: ∂y[i].
///
/// Where each element comes from is found by moving the numbers of the elements instead of the
/// elements. So one gradient serves every operation of this kind; new ones need nothing. Of a condition
/// with two branches, the one that was chosen gets all. ``OneHot`` moves its values off and on.
struct MovementGradient {
  private let operation: Operation
  private let node: GradientNode
  private let moved: [Int]

  /// - Returns: nil for an operation that computes.
  init?(_ operation: Operation, _ node: GradientNode) {
    let positions: [Int]
    switch (operation, operation.body.elementSource(operandCount: node.operands.count)) {
    case (.oneHot, _): positions = [2]
    case (_, .moved(let moved)): positions = moved
    default: return nil
    }
    guard !node.outputs.isEmpty, node.outputs.allSatisfy({ $0.elementType == .float32 })
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
    let ready = parts
    // Operands that decide where elements go are read in each run.
    let deciding = Set(
      node.operands.indices.filter { !moved.contains($0) && node.operands[$0]?.constant == nil })
    return GradientKernel(reading: deciding, scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      for (position, source) in ready {
        guard let target = memory.inputGradients[position] else { continue }
        try source.add(to: target, memory)
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
  /// Whether the numbers are the same in every run.
  private let isConstant: Bool
  private var isKnown = false
  /// The numbers in another form, for each output; empty if that is not shorter.
  private var runs: [[Run]] = []

  /// Neighbouring elements that were moved together.
  private struct Run {
    /// Of the first element, in the operand and in the output.
    let (place, index): (Int32, Int32)
    var count: Int32
  }

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

  /// Adds the gradients of the outputs to that of the operand.
  func add(to target: Floats, _ memory: GradientMemory) throws(QMError) {
    if !isKnown { try find(memory) }
    for (position, output) in outputs.enumerated() {
      guard let gradient = memory.outputGradients[position] else { continue }
      if !runs.isEmpty {
        for run in runs[position] {
          let (line, added) = (target + Int(run.place), gradient + Int(run.index))
          for index in 0..<Int(run.count) { line[index] += added[index] }
        }
        continue
      }
      let numbers = output.buffer.base.assumingMemoryBound(to: Int32.self)
      for index in 0..<output.elementCount where numbers[index] > 0 {
        target[Int(numbers[index]) - 1] += gradient[index]
      }
    }
  }

  /// Moves the numbers.
  private func find(_ memory: GradientMemory) throws(QMError) {
    let inputs = operands.enumerated().map { (index, tensor) in
      tensor.map { $0.buffer.base + $0.byteOffset } ?? memory.inputs[index]
    }
    try operation.run(
      inputs, outputs.map { $0.buffer.base }, scratch: memory.scratch + work,
      threads: memory.threads)
    guard isConstant else { return }
    isKnown = true
    let found = outputs.map { $0.withElements(as: Int32.self, SourceNumbers.runs) }
    let count = found.reduce(0) { $0 + $1.count }
    if 4 * count < outputs.reduce(0, { $0 + $1.elementCount }) { runs = found }
  }

  private static func runs(_ numbers: UnsafeBufferPointer<Int32>) -> [Run] {
    var runs: [Run] = []
    for (index, number) in numbers.enumerated() where number > 0 {
      if let last = runs.last, last.index + last.count == index,
        last.place + last.count == number - 1
      {
        runs[runs.count - 1].count += 1
      } else {
        runs.append(Run(place: number - 1, index: Int32(index), count: 1))
      }
    }
    return runs
  }
}

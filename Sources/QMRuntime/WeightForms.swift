import QMFormat
import QMOperations
import QMTensor

/// Decides for each node in which form its weights are in memory.
struct WeightForms {
  /// Convolutions whose weights are Winograd-transformed, which saves multiplications but takes
  /// eight bytes per code.
  let transformed: Set<Int>
  /// Dequantize nodes that only convolutions and matrix products read as weights. They run again in
  /// each run, because their float32 results would take four bytes per code.
  let recomputed: Set<Int>

  /// - Parameter constants: the tensor of each value that is a constant.
  init(
    _ program: Program, _ constants: [Int: Tensor], memory: WeightMemory, kernels: KernelSet
  ) {
    switch memory {
    case .standard:
      transformed = WeightForms.transformed(program, constants, kernels: kernels)
      recomputed = []
    case .compact:
      transformed = []
      recomputed = WeightForms.recomputed(program)
    }
  }

  /// Memory that transformed weights may always take beyond one byte per code. In small
  /// convolutional networks the activations are much larger than that.
  private static let leastByteCount = 1 << 20

  private struct Candidate {
    let node: Int
    let byteCount: Int
    /// Approximate number of multiplications that a run saves.
    let gain: Double
  }

  /// The nodes that save the most per byte, as many as fit into the limit.
  private static func transformed(
    _ program: Program, _ constants: [Int: Tensor], kernels: KernelSet
  ) -> Set<Int> {
    let costs = WinogradCosts.costs(kernels)
    var candidates: [Candidate] = []
    for (index, node) in program.nodes.enumerated() {
      guard case .convolution(let convolution) = node.operation else { continue }
      let operands = node.inputs.map { input in
        input.map { Operand(program.values[$0].type, constant: constants[$0]) }
      }
      let byteCount = convolution.transformByteCount(operands, for: kernels)
      guard byteCount > 0, let weights = operands[ProductOperand.weights]?.type,
        let output = node.outputs.first
      else { continue }
      let gain = gain(weights, output: program.values[output].type.shape, costs)
      if gain > 0 { candidates.append(Candidate(node: index, byteCount: byteCount, gain: gain)) }
    }
    var left = max(leastByteCount, 2 * program.codeCount)
    var transformed: Set<Int> = []
    let order = candidates.sorted {
      let (first, second) = ($0.gain / Double($0.byteCount), $1.gain / Double($1.byteCount))
      return first != second ? first > second : $0.node < $1.node
    }
    for candidate in order where candidate.byteCount <= left {
      left -= candidate.byteCount
      transformed.insert(candidate.node)
    }
    return transformed
  }

  /// The Dequantize nodes of weights that only convolutions and matrix products read.
  private static func recomputed(_ program: Program) -> Set<Int> {
    /// The node of each dequantized value that qualifies.
    var nodes: [Int: Int] = [:]
    for (index, node) in program.nodes.enumerated() {
      guard case .dequantize = node.operation, let codes = node.inputs[0],
        program.values[codes].constant != nil,
        case .weights = program.values[codes].type.quantization
      else { continue }
      nodes[node.outputs[0]] = index
    }
    for node in program.nodes {
      for (position, input) in node.inputs.enumerated() {
        guard let input, nodes[input] != nil else { continue }
        switch node.operation {
        case .convolution where position == ProductOperand.weights: continue
        case .matrixMultiply where position == ProductOperand.weights: continue
        default: nodes[input] = nil
        }
      }
    }
    for output in program.outputs { nodes[output.value] = nil }
    return Set(nodes.values)
  }

  /// What transforming the weights saves in a run.
  /// - Parameters:
  ///   - weights: `[O, 3, 3, C]`.
  ///   - output: `[n, h, w, O]`.
  private static func gain(_ weights: ValueType, output: Shape, _ costs: WinogradCosts) -> Double {
    guard let shape = weights.shape.extents, output.rank == 4,
      case .weights(let width, _) = weights.quantization
    else { return 0 }
    let hasFewBits = width < .eight
    guard let height = output[1].extent, let width = output[2].extent else {
      return costs.gain(channels: shape[3], outputs: shape[0], hasFewBits: hasFewBits)
    }
    return costs.gain(
      channels: shape[3], outputs: shape[0], height: height, width: width, hasFewBits: hasFewBits)
  }
}

extension Program {
  /// Number of weights that are codes.
  var codeCount: Int {
    constants.reduce(0) { count, constant in
      guard case .weights = constant.quantization else { return count }
      return count + constant.tensor.elementCount
    }
  }
}

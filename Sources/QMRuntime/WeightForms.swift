import QMFormat
import QMOperations
import QMTensor

/// The forms that weights take in memory, by node.
struct WeightForms {
  /// Convolutions whose weights are transformed for fewer multiplications: they take eight bytes
  /// for each code.
  let transformed: Set<Int>
  /// Nodes that make float32 numbers of codes for products alone, in each run anew: the results
  /// would take four bytes for each code.
  let recomputed: Set<Int>

  /// - Parameter constants: elements by value.
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

  /// What transformed weights may take beyond one byte for each code, whatever the network. Small
  /// networks of convolutions have large activations, beside which it does not show.
  private static let leastByteCount = 1 << 20

  private struct Candidate {
    let node: Int
    let byteCount: Int
    /// Multiplications that are saved in a run, about.
    let gain: Double
  }

  /// The nodes that save the most for each byte, as many as fit.
  private static func transformed(
    _ program: Program, _ constants: [Int: Tensor], kernels: KernelSet
  ) -> Set<Int> {
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
      let gain = gain(weights, output: program.values[output].type.shape)
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

  /// The nodes that make float32 numbers of codes for products alone.
  private static func recomputed(_ program: Program) -> Set<Int> {
    var makers: [Int: Int] = [:]
    for (index, node) in program.nodes.enumerated() {
      guard case .dequantize = node.operation, let codes = node.inputs[0],
        program.values[codes].constant != nil,
        case .weights = program.values[codes].type.quantization
      else { continue }
      makers[node.outputs[0]] = index
    }
    for node in program.nodes {
      for (position, input) in node.inputs.enumerated() {
        guard let input, makers[input] != nil else { continue }
        switch node.operation {
        case .convolution where position == ProductOperand.weights: continue
        case .matrixMultiply where position == ProductOperand.weights: continue
        default: makers[input] = nil
        }
      }
    }
    for output in program.outputs { makers[output.value] = nil }
    return Set(makers.values)
  }

  // In multiplications of codes of 8 bits, measured with AVX2.

  /// What a tile of 4 × 4 positions costs for each pair of channels.
  private static let tileCost = 36.0
  /// What it costs to transform a tile of a channel, in or out.
  private static let transformCost = 700.0
  /// What a multiplication costs where weights have fewer bits.
  private static let narrowCost = 0.7

  /// - Parameters:
  ///   - weights: `[O, 3, 3, C]`.
  ///   - output: `[n, h, w, O]`.
  private static func gain(_ weights: ValueType, output: Shape) -> Double {
    guard let extents = weights.shape.extents, output.rank == 4,
      case .weights(let width, _) = weights.quantization
    else { return 0 }
    let (columns, channels) = (Double(extents[0]), Double(extents[3]))
    let pairs = columns * channels
    var (positions, tiles): (Double, Double)
    if let height = output[1].extent, let width = output[2].extent {
      positions = Double(height) * Double(width)
      tiles = Double((height + 3) / 4) * Double((width + 3) / 4)
    } else {
      // Most networks have twice the channels where they have half the extents.
      positions = 1e9 / pairs
      tiles = positions / 16
    }
    let direct = 9 * positions * pairs * (width < .eight ? narrowCost : 1)
    return direct - tiles * (tileCost * pairs + transformCost * (channels + columns))
  }
}

extension Program {
  /// Weights that are codes.
  var codeCount: Int {
    constants.reduce(0) { count, constant in
      guard case .weights = constant.quantization else { return count }
      return count + constant.tensor.elementCount
    }
  }
}

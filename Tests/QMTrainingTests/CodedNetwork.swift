import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining

/// A network whose weights are codes: `input` [n, 6] → rounded, × weights [4, 6] + bias → Relu →
/// rounded, × weights [3, 4] → output [n, 3].
struct CodedNetwork {
  let network: TrainingNetwork
  /// The weights of the first product in front of rounding.
  let weights: [Float]

  /// - Parameters:
  ///   - granularity: of the first weights.
  ///   - largest: largest code of the weights.
  ///   - activations: how the two activations are rounded; nil for float32.
  ///   - inner: how the second one is, if otherwise.
  init(
    seed: UInt64 = 1, granularity: Granularity = .perChannel(axis: 0), largest: Int32 = 7,
    activations: QuantizationParameters? = nil, inner: QuantizationParameters? = nil
  ) throws {
    var generator = SeededGenerator(seed: seed)
    var graph = Graph()
    let input = try graph.addInput(
      name: "input", ValueType(.float32, Shape([.free(""), .fixed(6)])))
    func rounded(_ value: Graph.ValueID, _ activations: QuantizationParameters?) throws
      -> Graph.ValueID
    {
      guard let activations else { return value }
      let codes = try graph.append(
        .quantize(
          Quantize(
            activations.elementType, scale: activations.scale, zeroPoint: activations.zeroPoint)),
        name: "quantize", [value])[0]
      return try graph.append(.dequantize(Dequantize()), name: "dequantize", [codes])[0]
    }
    func coded(_ name: String, _ shape: [Int], _ granularity: Granularity) throws
      -> (Graph.ValueID, [Float])
    {
      let numbers = try generator.tensor(shape, in: -1...1).elements(as: Float.self)
      let scaleShape = try granularity.scaleShape(of: Shape(shape)).extents!
      let scales = try generator.tensor(scaleShape, in: 0.1...0.3)
      let all = scales.elements(as: Float.self)
      let codes: [Int8] = numbers.indices.map { index in
        let scale = all[CodedNetwork.scale(of: index, shape, granularity)]
        return Int8(
          min(max(numbers[index] / scale, Float(-largest)), Float(largest)).rounded(
            .toNearestOrEven))
      }
      let constant = graph.addConstant(
        name: name, try Tensor(shape, codes),
        .weights(bits: BitWidth(holding: -largest...largest)!, granularity: granularity))
      let scale = graph.addConstant(name: name + " scales", scales)
      let dequantized = try graph.append(
        .dequantize(Dequantize()), name: "dequantize", [constant, scale])[0]
      return (dequantized, numbers)
    }
    let product = Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))
    let (first, numbers) = try coded("first", [4, 6], granularity)
    let bias = graph.addConstant(name: "bias", try generator.tensor([4]))
    let hidden = try graph.append(
      product, name: "product 1", [try rounded(input, activations), first, bias])[0]
    let relu = try graph.append(.unary(Unary(.relu)), name: "relu", [hidden])[0]
    let (second, _) = try coded("second", [3, 4], .perTensor)
    let output = try graph.append(
      product, name: "product 2", [try rounded(relu, inner ?? activations), second])[0]
    try graph.addOutput(name: "output", output)
    network = try TrainingNetwork(graph, training: .quantized)
    weights = numbers
  }

  /// The number of the scale of an element.
  static func scale(of index: Int, _ shape: [Int], _ granularity: Granularity) -> Int {
    let (row, column) = index.quotientAndRemainder(dividingBy: shape[1])
    switch granularity {
    case .perTensor: return 0
    case .perChannel(let axis): return axis == 0 ? row : column
    case .perGroup(let axis, let size):
      let groups = (shape[axis] + size - 1) / size
      return axis == 1 ? row * groups + column / size : row / size * shape[1] + column
    }
  }

  func parameters(
    _ quantizer: Quantizer = .lsq, hasWidth: Bool = false, largest: Int32 = 7, threads: Int = 1,
    keepsWeights: Bool = true
  ) throws -> Parameters {
    let before = try Tensor([4, 6], weights)
    return try Parameters(
      of: network, threads: ThreadPool(threadCount: threads), quantizer: quantizer,
      weights: { keepsWeights && $0.name == "first" ? before : nil }, hasWidth: { _ in hasWidth },
      largestCode: { _ in largest })
  }
}

extension Parameters {
  func slot(_ name: String) -> Slot { slots.first { $0.name == name }! }

  func number(of name: String) -> Int { slots.firstIndex { $0.name == name }! }
}

extension Parameters.Slot {
  var elements: [Float] {
    get { Array(UnsafeBufferPointer(start: values, count: count)) }
    nonmutating set { values.update(from: newValue, count: count) }
  }

  var elementGradients: [Float] {
    get { Array(UnsafeBufferPointer(start: gradients, count: count)) }
    nonmutating set { gradients.update(from: newValue, count: count) }
  }
}

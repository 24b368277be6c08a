import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// What the first nodes behind a float input tell of the numbers that the network expects there.
///
/// Given: a network as it was read, before batch normalizations are folded into products.
/// Result:
/// - constants that the network subtracts from its input, or divides it by: the numbers have that mean
///   and that deviation; without such, the factors of ``EqualizeColumns``;
/// - a batch normalization with at most one product in front of it, which only this input reaches: its
///   statistics are the variances that the numbers lead to there.
struct InputFront {
  /// Element-wise steps with constants, in their order.
  private var steps: [(function: BinaryFunction, constant: Tensor)] = []
  /// The network up to its batch normalization, without sessions of its own for each sample.
  private var response: Session?
  /// The variance of each channel in front of the batch normalization.
  private var variances: [Float] = []

  /// Whether the network subtracts a mean: then a deviation of 1 is left.
  var isCentred: Bool { steps.contains { $0.function == .add || $0.function == .subtract } }

  private static let outputName = "response"

  /// - Parameters:
  ///   - input: number of the input's value.
  ///   - program: the network as it was read.
  ///   - passed: the network after the passes.
  init(of input: Int, in program: Program, passed: Program, _ options: Model.Options) {
    steps = InputFront.steps(behind: input, program)
    let name = program.values[input].name
    if steps.isEmpty, let input = passed.inputs.first(where: { passed.values[$0].name == name }) {
      steps = InputFront.steps(behind: input, passed)
    }
    guard let found = InputFront.normalization(behind: input, program) else { return }
    var prefix = program
    prefix.nodes.removeSubrange(found.node...)
    prefix.values.removeSubrange((program.nodes[found.node].outputs.min() ?? 0)...)
    prefix.outputs = [.init(name: InputFront.outputName, value: found.value)]
    prefix.metadata = .init()
    guard let model = try? Model(prefix, options: options) else { return }
    response = Session(model)
    variances = found.variances
  }

  private static func steps(
    behind input: Int, _ program: Program
  ) -> [(function: BinaryFunction, constant: Tensor)] {
    var steps: [(function: BinaryFunction, constant: Tensor)] = []
    var value = input
    while true {
      let readers = program.nodes.filter { $0.inputs.contains(value) }
      guard readers.count == 1, case .binary(let binary) = readers[0].operation,
        binary.secondFunction == nil,
        let constant = constant(beside: value, of: readers[0], binary.function, program)
      else { return steps }
      steps.append((binary.function, constant))
      value = readers[0].outputs[0]
    }
  }

  /// The finite constant of a step that can be undone; nil for another node.
  private static func constant(
    beside value: Int, of node: Program.Node, _ function: BinaryFunction, _ program: Program
  ) -> Tensor? {
    let isCommutative = function == .add || function == .multiply
    guard isCommutative || function == .subtract || function == .divide,
      let place = node.inputs.firstIndex(of: value), place == 0 || isCommutative,
      let other = node.inputs[1 - place], let number = program.values[other].constant
    else { return nil }
    let tensor = program.constants[number].tensor
    let isFactor = function == .multiply || function == .divide
    guard tensor.elementType == .float32,
      tensor.elements(as: Float.self).allSatisfy({ $0.isFinite && !(isFactor && $0 == 0) })
    else { return nil }
    return tensor
  }

  /// The first batch normalization that only this input reaches, behind at most one product.
  private static func normalization(
    behind input: Int, _ program: Program
  ) -> (node: Int, value: Int, variances: [Float])? {
    let inputs = Set(program.inputs)
    /// Inputs, and the most products on a way from them, of each value.
    var origins: [Int: (inputs: Set<Int>, products: Int)] = [:]
    for input in inputs { origins[input] = ([input], 0) }
    for (index, node) in program.nodes.enumerated() {
      let before = node.inputs.compactMap { $0.flatMap { origins[$0] } }
      guard !before.isEmpty else { continue }
      let reached = before.reduce(into: Set()) { $0.formUnion($1.inputs) }
      let products = before.map(\.products).max() ?? 0
      if case .batchNormalization = node.operation, reached == [input], products <= 1,
        let value = node.inputs[0],
        let constant = node.inputs[4].flatMap({ program.values[$0].constant })
      {
        let variances = program.constants[constant].tensor.elements(as: Float.self)
        return (index, value, Array(variances))
      }
      let isProduct = !node.operation.body.accumulators.products.isEmpty
      for output in node.outputs { origins[output] = (reached, products + (isProduct ? 1 : 0)) }
    }
    return nil
  }

  // MARK: Numbers

  /// The numbers that the steps with constants turn into `tensor`; `tensor` itself if there are none.
  func undoing(_ tensor: Tensor) -> Tensor {
    var result = tensor
    for (function, constant) in steps.reversed() {
      let inverse: BinaryFunction
      switch function {
      case .add: inverse = .subtract
      case .subtract: inverse = .add
      case .multiply: inverse = .divide
      default: inverse = .multiply
      }
      guard let next = try? Operation.binary(Binary(inverse)).evaluate([result, constant])[0],
        next.shape == tensor.shape
      else { return tensor }
      result = next
    }
    return result
  }

  /// The factor for the noise of an input that gives the batch normalization the variances that it
  /// expects, in the median over its channels; nil if there is no batch normalization, or no such
  /// factor.
  /// - Parameter sample: the sample with the noise of this input scaled by a factor.
  func amplitude(
    _ sample: (_ factor: Float) throws(QMError) -> [String: Tensor]
  ) -> Float? {
    guard let response else { return nil }
    var factor: Float = 1
    // One step is exact in front of a linear product; others need a few.
    for _ in 0..<6 {
      guard
        let tensor = try? response.run(sample(factor))[InputFront.outputName],
        let ratio = medianRatio(tensor)
      else { return nil }
      if (0.9...1.1).contains(ratio) { return factor }
      factor *= ratio
      guard (0x1p-16...0x1p16).contains(factor) else { return nil }
    }
    return nil
  }

  /// The median over channels of the expected deviation by that of `tensor`, `[N, C, …]`.
  private func medianRatio(_ tensor: Tensor) -> Float? {
    guard tensor.elementType == .float32, tensor.shape.count >= 2, tensor.elementCount > 0,
      tensor.shape[1] == variances.count
    else { return nil }
    let inner = tensor.shape[2...].reduce(1, *)
    let elements = tensor.elements(as: Float.self)
    var sums = [(sum: Double, squares: Double)](repeating: (0, 0), count: variances.count)
    for (index, element) in elements.enumerated() {
      let channel = index / inner % variances.count
      sums[channel].sum += Double(element)
      sums[channel].squares += Double(element) * Double(element)
    }
    let count = Double(elements.count / variances.count)
    var ratios: [Double] = []
    for (sums, expected) in zip(sums, variances) where expected > 0 {
      let mean = sums.sum / count
      let variance = sums.squares / count - mean * mean
      if variance > 0 { ratios.append((Double(expected) / variance).squareRoot()) }
    }
    ratios = ratios.filter(\.isFinite).sorted()
    return ratios.isEmpty ? nil : Float(ratios[ratios.count / 2])
  }
}

import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// A network whose float32 constants are all parameters, so that the gradient of everything is seen.
struct GradientCase {
  private(set) var graph = Graph()
  private(set) var inputs: [Tensor] = []

  /// A float32 constant that is a parameter.
  mutating func parameter(_ tensor: Tensor) throws -> Graph.ValueID {
    let id = graph.addConstant(name: "parameter", tensor)
    try graph.makeParameter(id)
    return id
  }

  /// A constant that is none, such as a shape.
  mutating func constant(_ tensor: Tensor, _ quantization: Quantization = .none) -> Graph.ValueID {
    graph.addConstant(name: "constant", tensor, quantization)
  }

  mutating func constant(_ integers: [Int64]) throws -> Graph.ValueID {
    constant(try Tensor([integers.count], integers))
  }

  mutating func input(_ tensor: Tensor) throws -> Graph.ValueID {
    inputs.append(tensor)
    return try graph.addInput(name: "input \(inputs.count)", tensor.type)
  }

  @discardableResult
  mutating func append(_ operation: Operation, _ inputs: [Graph.ValueID?]) throws
    -> [Graph.ValueID]
  {
    try graph.append(operation, name: operation.name, inputs)
  }

  mutating func output(_ value: Graph.ValueID) throws {
    try graph.addOutput(name: "output \(graph.outputs.count)", value)
  }

  /// A network of one node, with all its float32 outputs. Tensors of float32 are parameters; the
  /// others are constants.
  init(_ operation: Operation, _ operands: [Tensor?]) throws {
    var inputs: [Graph.ValueID?] = []
    for operand in operands {
      guard let operand else {
        inputs.append(nil)
        continue
      }
      inputs.append(
        operand.elementType == .float32 ? try parameter(operand) : constant(operand))
    }
    for value in try append(operation, inputs) where graph[value].type.elementType == .float32 {
      try output(value)
    }
  }

  init() {}

  /// A network whose weights become parameters, but not the constants that an operation takes only
  /// as constants.
  init(_ graph: Graph, inputs: [Tensor]) throws {
    self.graph = graph
    self.inputs = inputs
    for node in graph.nodes {
      switch node.operation {
      case .resize, .pad: continue
      default: break
      }
      for case let input? in node.inputs where graph[input].constant?.elementType == .float32 {
        try self.graph.makeParameter(input)
      }
    }
  }
}

/// A network that is run forward and backward on the memory that it owns.
final class GradientRun {
  let network: TrainingNetwork
  let pass: TrainingPass
  let inputs: [Tensor]
  /// The values of the network's float32 outputs.
  let lossValues: [Int]
  private var values: [UnsafeMutableBufferPointer<Float>] = []
  private var sums: [UnsafeMutableBufferPointer<Float>] = []

  init(
    _ test: GradientCase, options: TrainingPass.Options = .init(),
    batchNormalization form: BatchNormalizationForm = .frozen, threads: Int = 1,
    kernels: KernelSet = .best
  ) throws {
    network = try TrainingNetwork(
      test.graph, training: .parameters, batchNormalization: form)
    inputs = test.inputs
    var lossValues: [Int] = []
    for (_, value) in network.outputs
    where network.values[value].type.elementType == .float32 && !lossValues.contains(value) {
      lossValues.append(value)
    }
    self.lossValues = lossValues
    for parameter in network.parameters {
      let elements = parameter.initial.elements(as: Float.self)
      let value = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(elements.count, 1))
      _ = value.initialize(from: elements)
      let sum = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(elements.count, 1))
      sum.initialize(repeating: 0)
      values.append(value)
      sums.append(sum)
    }
    pass = try TrainingPass(
      network, shapes: inputs.map(\.shape), parameters: values.map { $0.baseAddress! },
      gradients: sums.map { $0.baseAddress! }, lossValues: lossValues,
      options: options, kernels: kernels, threads: ThreadPool(threadCount: threads))
  }

  deinit {
    for buffer in values + sums { buffer.deallocate() }
  }

  func elementCount(_ parameter: Int) -> Int { network.parameters[parameter].initial.elementCount }

  func setElement(_ index: Int, of parameter: Int, to number: Float) {
    values[parameter][index] = number
  }

  func element(_ index: Int, of parameter: Int) -> Float { values[parameter][index] }

  /// Numbers for ∂loss/∂output, one array per value of the loss.
  func outputGradients(_ generator: inout SeededGenerator) throws -> [[Float]] {
    try lossValues.map {
      try generator.tensor([pass.elements(of: $0).count]).elements(as: Float.self)
    }
  }

  /// Σ gradient · output.
  func loss(_ gradients: [[Float]], _ inputs: [Tensor]? = nil) throws -> Double {
    try pass.forward(inputs ?? self.inputs)
    var sum = 0.0
    for (value, gradient) in zip(lossValues, gradients) {
      for (left, right) in zip(pass.elements(of: value), gradient) {
        sum += Double(left) * Double(right)
      }
    }
    return sum
  }

  /// Adds the gradients of the loss.
  func addGradients(_ gradients: [[Float]], _ inputs: [Tensor]? = nil) throws {
    _ = try loss(gradients, inputs)
    for (value, gradient) in zip(lossValues, gradients) {
      guard let target = pass.gradient(of: value) else { continue }
      for (index, number) in gradient.enumerated() { target[index] = number }
    }
    try pass.backward()
  }

  /// The sums of the gradients of each parameter so far.
  var parameterGradients: [[Float]] {
    sums.indices.map { Array(sums[$0].prefix(elementCount($0))) }
  }
}

/// The largest difference of two lists of arrays, in units of the largest number in the same array
/// of the second list, or of `floor` if that is larger.
func largestError(_ found: [[Float]], _ expected: [[Double]], floor: Double = 1e-3) -> Double {
  var worst = 0.0
  for (found, expected) in zip(found, expected) {
    let unit = max(expected.reduce(0) { max($0, $1.magnitude) }, floor)
    for (left, right) in zip(found, expected) {
      let error = (Double(left) - right).magnitude / unit
      worst = error.isNaN ? .infinity : max(worst, error)
    }
  }
  return worst
}

/// Expects the gradients of all parameters to be what central differences of the forward run give,
///
///     (4 · D(h / 2) − D(h)) / 3     with D(h) = (loss(x + h) − loss(x − h)) / 2h
///
/// whose error is of order h⁴; and to be the same bits with two threads, and twice as large after
/// two runs.
/// - Parameters:
///   - step: h.
///   - tolerance: of an element, in units of the largest gradient of the same parameter.
func expectGradients(
  _ test: GradientCase, batchNormalization form: BatchNormalizationForm = .frozen, seed: UInt64 = 1,
  step: Float = 0x1p-5, tolerance: Double = 1e-3, _ description: String = "",
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  var generator = SeededGenerator(seed: seed)
  let run = try GradientRun(test, batchNormalization: form)
  let gradients = try run.outputGradients(&generator)
  try run.addGradients(gradients)
  let found = run.parameterGradients
  #expect(
    found.contains { $0.contains { $0 != 0 } }, "\(description): no gradient",
    sourceLocation: sourceLocation)

  var expected: [[Double]] = []
  for parameter in found.indices {
    guard !run.network.parameters[parameter].isStatistic else {
      expected.append(found[parameter].map { _ in 0 })
      continue
    }
    var differences: [Double] = []
    for index in 0..<run.elementCount(parameter) {
      let element = run.element(index, of: parameter)
      func difference(_ step: Float) throws -> Double {
        run.setElement(index, of: parameter, to: element + step)
        let above = try run.loss(gradients)
        run.setElement(index, of: parameter, to: element - step)
        let below = try run.loss(gradients)
        return (above - below) / Double((element + step) - (element - step))
      }
      let (half, whole) = (try difference(step / 2), try difference(step))
      run.setElement(index, of: parameter, to: element)
      differences.append((4 * half - whole) / 3)
    }
    expected.append(differences)
  }
  let error = largestError(found, expected)
  #expect(
    error <= tolerance, "\(description): found \(found), expected \(expected)",
    sourceLocation: sourceLocation)

  try run.addGradients(gradients)
  #expect(
    largestError(run.parameterGradients, found.map { $0.map { 2 * Double($0) } }) < 1e-5,
    "\(description): a second run does not add to the first", sourceLocation: sourceLocation)

  let threaded = try GradientRun(test, batchNormalization: form, threads: 2)
  try threaded.addGradients(gradients)
  #expect(
    threaded.parameterGradients.map { $0.map(\.bitPattern) } == found.map { $0.map(\.bitPattern) },
    "\(description): the gradient depends on the number of threads",
    sourceLocation: sourceLocation)
}

/// The same for a network of one node: see ``GradientCase/init(_:_:)``.
func expectGradients(
  of operation: Operation, _ operands: [Tensor?], seed: UInt64 = 1, step: Float = 0x1p-5,
  tolerance: Double = 1e-3, _ description: String = "",
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  try expectGradients(
    GradientCase(operation, operands), seed: seed, step: step, tolerance: tolerance,
    "\(operation) \(description)", sourceLocation: sourceLocation)
}

extension SeededGenerator {
  /// Numbers in random order, no two closer than `distance`, none closer to 0 than half of it: where
  /// a function has a corner, central differences do not straddle it.
  mutating func spread(_ shape: [Int], distance: Float = 0.125) throws -> Tensor {
    let count = shape.reduce(1, *)
    var places = Array(0..<count)
    places.shuffle(using: &self)
    return try Tensor(
      shape, places.map { (Float($0) - Float(count / 2) + 0.5) * distance })
  }
}

import QMGraph
import QMOperations
import QMTensor

/// A network as training runs it: a float graph, or the simulation of a plan, in which the constants
/// that training changes are parameters.
///
/// - Codes of weights and their Dequantize become one parameter, which is rounded in front of each
///   step.
/// - A Quantize and its Dequantize become one rounding of an activation.
/// - Functions that are fused into a product or a binary operation become nodes of their own: the
///   results are the same bits, and each has its own gradient.
package struct TrainingNetwork {
  /// Where the elements of a value come from.
  package enum Content {
    case input
    case constant(Tensor)
    /// An index into ``parameters``.
    case parameter(Int)
    case computed
  }

  package struct Value {
    package let name: String
    package var type: ValueType
    package var content: Content
  }

  package enum Step {
    case operation(Operation)
    /// Rounds an activation; an index into ``activations``.
    case rounding(Int)
  }

  package struct Node {
    package let step: Step
    package let name: String
    package let inputs: [Int?]
    package let outputs: [Int]

    /// The name of the operation, for messages.
    var operationName: String {
      switch step {
      case .operation(let operation): operation.name
      case .rounding: Quantize.name
      }
    }
  }

  /// A constant that training changes.
  package struct Parameter {
    /// What the parameter is in the graph.
    package enum Role: Hashable {
      /// Weights that are stored as codes, by the name of the constant.
      case codes(String)
      /// The bias of a product or recurrent layer, by its number among the nodes of the graph without
      /// rounding.
      case bias(node: Int)
      /// Another constant that a node reads, by the node's number, counted likewise, and the operand.
      case operand(node: Int, position: Int)
      /// A parameter of the graph, by its name.
      case constant(String)
      /// A running mean of a batch normalization, by its name: the forward run changes it, and it has no
      /// gradient.
      case runningMean(String)
      /// The same of a variance.
      case runningVariance(String)
    }

    package let name: String
    package internal(set) var role: Role
    /// float32: the elements before training; for codes, the numbers that they represent.
    package let initial: Tensor
    /// The codes before training; nil for a parameter in float32.
    package let codes: QuantizedTensor?
    /// Whether forward runs change the parameter, and gradients do not.
    package var isStatistic: Bool {
      switch role {
      case .runningMean, .runningVariance: true
      case .codes, .bias, .operand, .constant: false
      }
    }
  }

  /// An activation that is rounded with a fixed scale and zero point.
  package struct Activation {
    package let name: String
    package let parameters: QuantizationParameters
  }

  package private(set) var values: [Value] = []
  package private(set) var nodes: [Node] = []
  package private(set) var parameters: [Parameter] = []
  package private(set) var activations: [Activation] = []
  package private(set) var inputs: [Int] = []
  package private(set) var outputs: [(name: String, value: Int)] = []

  /// The results of products with trained weights, after the functions that are fused into them: for
  /// each, the value that the graph has too.
  package var products: [Int] {
    var isTrained: Set<Int> = []
    for (index, value) in values.enumerated() {
      if case .parameter(let parameter) = value.content, parameters[parameter].codes != nil {
        isTrained.insert(index)
      }
    }
    var results: [Int] = []
    // The result of a product whose functions are nodes of their own is theirs.
    var open: Set<Int> = []
    for node in nodes {
      guard case .operation(let operation) = node.step else { continue }
      let reads = node.inputs.compactMap { $0 }
      let isProduct: Bool
      switch operation {
      case .convolution, .matrixMultiply, .recurrent:
        isProduct = reads.contains(where: isTrained.contains)
      case .unary: isProduct = reads.contains(where: open.contains)
      default: isProduct = false
      }
      guard isProduct, let output = node.outputs.first else { continue }
      if inner.contains(output) { open.insert(output) } else { results.append(output) }
    }
    return results
  }

  /// Values between a product and the functions that were fused into it.
  private var inner: Set<Int> = []

  /// The constants that training may change.
  package enum Trained {
    /// Codes of weights, biases, and the scales and shifts of normalizations.
    case quantized
    /// The parameters of the graph.
    case parameters
  }

  /// - Parameters:
  ///   - graph: a float graph, or the simulation of a plan for one.
  ///   - trained: the constants that become parameters.
  ///   - form: with trained statistics, means and variances of batch normalizations that are
  ///     parameters of the graph are running ones.
  /// - Throws: `unsupported` if the graph holds codes in another way than a simulation does.
  package init(
    _ graph: Graph, training trained: Trained,
    batchNormalization form: BatchNormalizationForm = .frozen
  ) throws(QMError) {
    var builder = NetworkBuilder(graph, trained)
    try builder.run()
    values = builder.values
    nodes = builder.nodes
    parameters = builder.parameters
    activations = builder.activations
    inputs = builder.inputs
    inner = builder.inner
    outputs = graph.outputs.compactMap { output in
      builder.numbers[output.value].map { (output.name, $0) }
    }
    if form == .trained { markStatistics() }
  }

  private mutating func markStatistics() {
    for node in nodes {
      guard case .operation(.batchNormalization) = node.step,
        let mean = parameter(node.inputs[3]), let variance = parameter(node.inputs[4])
      else { continue }
      parameters[mean].role = .runningMean(parameters[mean].name)
      parameters[variance].role = .runningVariance(parameters[variance].name)
    }
  }

  /// The parameter that a value is; nil if it is none.
  func parameter(_ value: Int?) -> Int? {
    guard let value, case .parameter(let parameter) = values[value].content else { return nil }
    return parameter
  }

  /// Whether a node normalizes with the statistics of the batch while it is trained.
  func usesBatchStatistics(_ node: Node) -> Bool {
    guard case .operation(.batchNormalization) = node.step else { return false }
    return [3, 4].allSatisfy {
      parameter(node.inputs[$0]).map { parameters[$0].isStatistic } ?? false
    }
  }
}

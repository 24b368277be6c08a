import QMTensor
import QMTestSupport

/// A network drawn at random, with what a run of it needs.
public struct RandomNetwork: Sendable {
  /// The network as a file would hold it.
  public var network: ONNXNetwork
  /// Extents of each input in a run.
  var shapes: [String: [Int]] = [:]
  /// Inputs that are extents, indices or the like: equal in every sample.
  var fixedInputs: [String: Tensor] = [:]
  /// Whether random numbers are positive only, so that every function is defined.
  var isPositive = false

  /// Whether all extents are known before the run. An input's 0 is read as an unknown extent.
  var isFixed: Bool {
    fixedInputs.isEmpty && !network.nodes.contains { ["NonZero", "Unique"].contains($0.operation) }
      && network.inputs.allSatisfy { $0.type.shape.extents.map { !$0.contains(0) } ?? false }
  }

  init(network: ONNXNetwork) { self.network = network }

  /// A network whose inputs are the same in every sample.
  public init(_ network: ONNXNetwork, inputs: [String: Tensor]) {
    self.network = network
    fixedInputs = inputs
  }

  /// The inputs of one sample.
  public func inputs(sample: Int) throws(QMError) -> [String: Tensor] {
    var random = SeededGenerator(seed: UInt64(sample) &+ 1)
    var inputs = fixedInputs
    for (name, type) in network.inputs where inputs[name] == nil {
      inputs[name] = try random.numbers(
        type.elementType, shapes[name] ?? [], isPositive: isPositive)
    }
    return inputs
  }
}

extension RandomNetwork: CustomStringConvertible {
  /// The network as text: operator set, inputs, constants, nodes, outputs.
  public var description: String {
    let inputs = network.inputs.map { "\($0.name): \($0.type) run \(shapes[$0.name] ?? [])" }
    let constants = network.constants.map { "\($0.name): \($0.tensor)" }
    let nodes = network.nodes.map { node in
      let attributes = node.attributes.map { "\($0.name)=\($0.value)" }
      return "\(node.outputs) = \(node.operation)(\(node.inputs.joined(separator: ", "));"
        + " \(attributes.joined(separator: ", ")))"
    }
    return "opset \(network.opset)\n  inputs \(inputs)\n  constants \(constants)\n  "
      + nodes.joined(separator: "\n  ") + "\n  outputs \(network.outputs)"
  }
}

extension SeededGenerator {
  /// Random numbers that every element type represents, from -3 to 3.
  mutating func numbers(
    _ type: ElementType, _ shape: [Int], isPositive: Bool = false
  ) throws(QMError) -> Tensor {
    switch type {
    case .bool: try bits(.bool, shape)
    case .uint8, .uint16, .uint32, .uint64:
      try tensor(shape, in: Int32(isPositive ? 1 : 0)...3).converted(to: type)
    case .int8, .int16, .int32, .int64:
      try tensor(shape, in: Int32(isPositive ? 1 : -3)...3).converted(to: type)
    default: try tensor(shape, in: (isPositive ? 0.1 : -2)...2).converted(to: type)
    }
  }
}

import QMOperations
import QMReport
import QMTensor

/// How weights start.
///
/// - network: as they are
/// - xavier: normal with variance 2 / (inputs + outputs)
/// - he: normal with variance 2 / inputs
///
/// with the inputs and outputs of one output element; biases start at 0, running means at 0 and running
/// variances at 1. Other parameters stay as they are.
///
/// Source: Glorot and Bengio 2010, "Understanding the Difficulty of Training Deep Feedforward Neural
/// Networks", equation 12; He et al. 2015, "Delving Deep into Rectifiers", equation 10.
public enum Initialization: String, Sendable, Codable, CaseIterable {
  case network, xavier, he
}

extension Parameters {
  /// Draws the weights of products from a seed.
  package func initialize(_ start: Initialization, _ network: TrainingNetwork, seed: UInt64) {
    guard start != .network else { return }
    for (index, parameter) in network.parameters.enumerated() {
      let (values, count) = (elements[index], parameter.initial.elementCount)
      switch parameter.role {
      case .runningMean: values.update(repeating: 0, count: count)
      case .runningVariance: values.update(repeating: 1, count: count)
      default: break
      }
      guard let use = network.use(of: index) else { continue }
      switch use {
      case .bias: values.update(repeating: 0, count: count)
      case .weights(let inputs, let outputs):
        let variance = start == .he ? 2 / Float(inputs) : 2 / Float(inputs + outputs)
        let deviation = variance.squareRoot()
        var numbers = RandomNumbers(seed: seed &+ 2, stream: index)
        for place in 0..<count { values[place] = numbers.nextNormal() * deviation }
      }
    }
  }
}

extension TrainingNetwork {
  /// What a product does with a parameter.
  enum ParameterUse {
    case weights(inputs: Int, outputs: Int)
    case bias
  }

  /// The use of a parameter by the first product that reads it; nil for other parameters.
  func use(of parameter: Int) -> ParameterUse? {
    let shape = parameters[parameter].initial.shape
    let own = values.indices.first {
      if case .parameter(parameter) = values[$0].content { true } else { false }
    }
    // Also through the transposition to channels last.
    var names = Set([own].compactMap { $0 })
    for node in nodes {
      guard case .operation(let operation) = node.step else { continue }
      let position = node.inputs.firstIndex { $0.map(names.contains) ?? false }
      guard let position else { continue }
      switch operation {
      case .transpose, .reshape: names.formUnion(node.outputs)
      case .convolution where position == ProductOperand.weights:
        let taps = shape.dropFirst(2).reduce(1, *)
        return .weights(inputs: shape[1] * taps, outputs: shape[0] * taps)
      case .matrixMultiply(let product) where position == ProductOperand.weights && shape.count > 1:
        let (last, before) = (shape[shape.count - 1], shape[shape.count - 2])
        return product.rightLayout == .depthFirst
          ? .weights(inputs: before, outputs: last) : .weights(inputs: last, outputs: before)
      case .recurrent
      where position == RecurrentOperand.weights
        || position == RecurrentOperand.recurrence:
        return .weights(inputs: shape[shape.count - 1], outputs: shape[shape.count - 1])
      case .recurrent where position == RecurrentOperand.bias: return .bias
      case .convolution, .matrixMultiply: return position == ProductOperand.bias ? .bias : nil
      case .binary(let binary): return binary.function == .add ? .bias : nil
      default: return nil
      }
    }
    return nil
  }
}

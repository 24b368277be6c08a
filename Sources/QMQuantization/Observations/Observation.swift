import QMGraph
import QMOperations
import QMTensor

/// An operand of a node of the float graph after the passes.
public struct OperandPlace: Hashable, Sendable, Comparable {
  /// Index of the node.
  public let node: Int
  /// Position among the node's inputs.
  public let operand: Int

  /// Input `operand` of node `node`.
  public init(node: Int, operand: Int) {
    self.node = node
    self.operand = operand
  }

  public static func < (left: OperandPlace, right: OperandPlace) -> Bool {
    (left.node, left.operand) < (right.node, right.operand)
  }
}

/// A statistic of an operand over all samples, which a step of a conversion needs. One run over the
/// samples collects all observations together, as far as memory allows.
public struct Observation: Hashable, Sendable {
  /// The statistic.
  public enum Kind: Hashable, Sendable, Comparable {
    /// Smallest and largest element.
    case range
    /// Range and histogram.
    case histogram
    /// Mean at each index of the last axis.
    case means
    /// Second moments of the windows by which the weights at this operand are multiplied.
    case secondMoments
  }

  /// The operand that is observed.
  public let place: OperandPlace
  /// The statistic that is collected.
  public let kind: Kind

  /// The statistic `kind` of the operand at `place`.
  public init(_ kind: Kind, of place: OperandPlace) {
    self.place = place
    self.kind = kind
  }
}

extension Graph {
  /// The value at a place; nil if the graph has no such place.
  func value(at place: OperandPlace) -> ValueID? {
    nodes.indices.contains(place.node) ? nodes[place.node].input(place.operand) : nil
  }

  /// The first operand that reads each value.
  var firstReaders: [ValueID: OperandPlace] {
    var readers: [ValueID: OperandPlace] = [:]
    for (index, node) in nodes.enumerated() {
      for (operand, input) in node.inputs.enumerated() {
        guard let input, readers[input] == nil else { continue }
        readers[input] = OperandPlace(node: index, operand: operand)
      }
    }
    return readers
  }

  /// The windows by which the weights at a place are multiplied; nil unless they are constant
  /// weights of a product or recurrent layer.
  func inputWindows(ofWeightsAt place: OperandPlace) -> InputWindows? {
    guard let weights = value(at: place), let constant = self[weights].constant,
      let windows = InputWindows(
        of: nodes[place.node].operation, weightsAt: place.operand, constant.shape),
      windows.length <= SecondMoments.largestLength
    else { return nil }
    return windows
  }

  /// The value that a source of windows of a node stands for; nil for an operand that is absent.
  func value(of source: InputWindows.Source, at node: Int) -> ValueID? {
    switch source {
    case .operand(let position): nodes[node].input(position)
    case .output(let position):
      nodes[node].outputs.indices.contains(position)
        ? nodes[node].outputs[position] : nil
    }
  }

  /// The places of all weights with second moments of their windows.
  var placesOfWeights: [OperandPlace] {
    nodes.indices.flatMap { node in
      nodes[node].operation.body.weightOperands(of: operands(of: nodes[node])).compactMap {
        let place = OperandPlace(node: node, operand: $0.position)
        guard let windows = inputWindows(ofWeightsAt: place),
          // Constant inputs are not observed.
          windows.sources.contains(where: {
            value(of: $0, at: node).map { self[$0].constant == nil } ?? false
          })
        else { return nil }
        return place
      }
    }
  }

  /// All observations that the steps of any recipe can need.
  var allObservations: Set<Observation> {
    var observations: Set<Observation> = []
    for (value, place) in firstReaders
    where self[value].constant == nil && self[value].type.elementType == .float32 {
      observations.insert(.init(.histogram, of: place))
    }
    for place in placesOfWeights {
      observations.insert(.init(.secondMoments, of: place))
      let input = OperandPlace(node: place.node, operand: ProductOperand.input)
      guard place.operand == ProductOperand.weights,
        value(at: input).map({ self[$0].type.elementType == .float32 }) ?? false
      else { continue }
      observations.insert(.init(.means, of: input))
    }
    return observations
  }
}

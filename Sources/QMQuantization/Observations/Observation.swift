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
    /// Second moments of the input windows by which the product's weights are multiplied.
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

  /// The windows of a product's input; nil unless its weights are constant.
  func inputWindows(of node: Node) -> InputWindows? {
    guard let weights = node.input(ProductOperand.weights), let constant = self[weights].constant
    else { return nil }
    guard let windows = InputWindows(of: node.operation, weights: constant.shape),
      windows.length <= SecondMoments.largestLength
    else { return nil }
    return windows
  }

  /// All observations that the steps of any recipe can need.
  var allObservations: Set<Observation> {
    var observations: Set<Observation> = []
    for (value, place) in firstReaders
    where self[value].constant == nil && self[value].type.elementType == .float32 {
      observations.insert(.init(.histogram, of: place))
    }
    for (index, node) in nodes.enumerated() where inputWindows(of: node) != nil {
      let place = OperandPlace(node: index, operand: ProductOperand.input)
      guard let input = value(at: place), self[input].constant == nil,
        self[input].type.elementType == .float32
      else { continue }
      observations.insert(.init(.means, of: place))
      observations.insert(.init(.secondMoments, of: place))
    }
    return observations
  }
}

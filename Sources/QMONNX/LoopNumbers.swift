import QMGraph
import QMOperations
import QMTensor

/// An integer of a loop: `iterations · i + Σ axes[n] · n + constant`, where i is the number of the
/// iteration and each n the extent of a dynamic axis.
struct LoopNumber: Equatable {
  var iterations = 0
  /// By name of the axis; no factor is 0.
  var axes: [String: Int] = [:]
  var constant = 0

  /// What is known of an element of shape arithmetic; nil if that is nothing.
  init?(_ element: PartialIntegers.Element) {
    switch element {
    case .known(let number): constant = number
    case .axis(let name): axes = [name: 1]
    case .unknown: return nil
    }
    guard isSmall else { return nil }
  }

  /// The extent of an axis; nil if it is dynamic and has no name.
  init?(_ axis: Shape.Axis) {
    switch axis {
    case .fixed(let extent): self.init(.known(extent))
    case .free(""): return nil
    case .free(let name): self.init(.axis(name))
    }
  }

  init(iterations: Int, constant: Int = 0) {
    self.iterations = iterations
    self.constant = constant
  }

  /// So that no sum or product of two numbers overflows.
  private var isSmall: Bool {
    iterations.magnitude < 1 << 16 && constant.magnitude < 1 << 40
      && axes.values.allSatisfy { $0.magnitude < 1 << 16 }
  }

  /// This number plus `factor` times the other; nil if it is large.
  func adding(_ other: LoopNumber, times factor: Int = 1) -> LoopNumber? {
    var sum = self
    sum.iterations += factor * other.iterations
    sum.constant += factor * other.constant
    for (name, count) in other.axes {
      let total = sum.axes[name, default: 0] + factor * count
      sum.axes[name] = total == 0 ? nil : total
    }
    return sum.isSmall ? sum : nil
  }

  /// A number that this one does not exceed in any iteration from the first to the one before the
  /// last of `count`, which are at least 1; nil if there is none.
  func bound(count: LoopNumber) -> Int? {
    var worst = self
    worst.iterations = 0
    if iterations > 0 {
      guard let last = count.adding(LoopNumber(iterations: 0, constant: -2)),
        let sum = worst.adding(last, times: iterations)
      else { return nil }
      worst = sum
    }
    var bound = worst.constant
    for (name, factor) in worst.axes {
      guard factor < 0 else { return nil }
      // The number of iterations is at least 1, any other extent at least 0.
      if count == LoopNumber(.axis(name)) { bound += factor }
    }
    return bound
  }
}

/// What is known of the integers of a loop and of the conditions that they are compared in.
///
/// The comparisons may be of float32 numbers: up to 2^24 these are the same.
struct LoopNumbers {
  typealias Value = GraphBuilder.Value

  private let builder: GraphBuilder
  /// The numbers of the values around a body.
  private let outer: (Value) -> LoopNumber?
  /// Carried values that count the iterations.
  private let counters: [Graph.ValueID: LoopNumber]
  private let producers: [Graph.ValueID: Graph.Node]

  /// - Parameters:
  ///   - builder: of the body, or of the graph around it.
  ///   - counters: values that count the iterations.
  ///   - outer: the number of a value of the graph around the body.
  init(
    _ builder: GraphBuilder, counters: [Graph.ValueID: LoopNumber] = [:],
    outer: @escaping (Value) -> LoopNumber? = { _ in nil }
  ) {
    self.builder = builder
    self.counters = counters
    self.outer = outer
    var producers: [Graph.ValueID: Graph.Node] = [:]
    for node in builder.graph.nodes {
      for output in node.outputs { producers[output] = node }
    }
    self.producers = producers
  }

  func producer(of value: Graph.ValueID) -> Graph.Node? { producers[value] }

  /// The value around the body that `value` stands for; nil if it is computed in the body.
  func captured(_ value: Graph.ValueID) -> Value? {
    builder.captures.first { $0.input.place == .graph(value) }?.outer
  }

  /// A value of one element; nil if it is no such number.
  func number(_ value: Value) -> LoopNumber? {
    switch value.place {
    case .graph(let id): number(id)
    case .constant: builder.construction.constant(of: value).flatMap(Self.number)
    }
  }

  /// - Parameter depth: bounds the search.
  func number(_ id: Graph.ValueID, depth: Int = 16) -> LoopNumber? {
    let value = builder.graph[id]
    if let counter = counters[id] { return counter }
    guard depth > 0, value.type.shape.axes.allSatisfy({ $0 == 1 }) else { return nil }
    if let constant = value.constant { return Self.number(constant) }
    if let element = builder.construction.partial(
      of: Value(place: .graph(id), type: value.type.elementType))?.elements.first,
      let known = LoopNumber(element)
    {
      return known
    }
    if let given = captured(id) { return outer(given) }
    guard let node = producers[id] else { return nil }
    func operand(_ position: Int) -> LoopNumber? {
      node.input(position).flatMap { number($0, depth: depth - 1) }
    }
    switch node.operation {
    case .cast(let cast) where [.int32, .int64, .float32].contains(cast.elementType):
      return operand(0)
    case .identity, .squeeze, .unsqueeze, .reshape: return operand(0)
    case .binary(let binary) where binary.secondFunction == nil:
      guard binary.function == .add || binary.function == .subtract, let left = operand(0),
        let right = operand(1)
      else { return nil }
      return left.adding(right, times: binary.function == .add ? 1 : -1)
    default: return nil
    }
  }

  private static func number(_ constant: Tensor) -> LoopNumber? {
    guard constant.elementCount == 1 else { return nil }
    switch constant.elementType {
    case .int32: return LoopNumber(.known(Int(constant.elements(as: Int32.self)[0])))
    case .int64: return LoopNumber(.known(Int(constant.elements(as: Int64.self)[0])))
    case .float32:
      return Int(exactly: constant.elements(as: Float.self)[0]).flatMap { LoopNumber(.known($0)) }
    default: return nil
    }
  }

  /// Whether the condition holds after each iteration but the last of `count`, and before the first
  /// if there is one.
  func holds(_ id: Graph.ValueID, count: LoopNumber, depth: Int = 8) -> Bool {
    if let constant = builder.graph[id].constant {
      return constant.elementType == .bool && constant.elementCount == 1
        && constant.elements(as: Bool.self)[0]
    }
    guard depth > 0, let node = producers[id], let left = node.input(0), let right = node.input(1)
    else { return false }
    switch node.operation {
    case .logic(let logic) where logic.function == .and:
      return holds(left, count: count, depth: depth - 1)
        && holds(right, count: count, depth: depth - 1)
    case .comparison(let comparison):
      guard let left = number(left), let right = number(right) else { return false }
      let difference: LoopNumber?
      let most: Int
      switch comparison.function {
      case .less: (difference, most) = (left.adding(right, times: -1), -1)
      case .lessOrEqual: (difference, most) = (left.adding(right, times: -1), 0)
      case .greater: (difference, most) = (right.adding(left, times: -1), -1)
      case .greaterOrEqual: (difference, most) = (right.adding(left, times: -1), 0)
      case .equal: return false
      }
      return difference?.bound(count: count).map { $0 <= most } ?? false
    default: return false
    }
  }
}

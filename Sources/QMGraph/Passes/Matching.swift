import QMOperations
import QMTensor

/// Finds patterns among the float values of a graph: the forms in which exporters spell out an
/// operation.
struct Matching {
  let graph: Graph
  let uses: Uses

  init(_ graph: Graph) {
    self.graph = graph
    uses = Uses(graph)
  }

  func producer(of value: Graph.ValueID) -> Graph.Node? {
    uses.producer(of: value).map { graph.nodes[$0] }
  }

  func shape(_ value: Graph.ValueID) -> Shape { graph[value].type.shape }

  /// The number in a float constant of one element; nil for a parameter, which may change.
  func scalar(_ value: Graph.ValueID) -> Float? {
    guard let constant = graph[value].constant, constant.elementType == .float32,
      constant.elementCount == 1, !graph[value].isParameter
    else { return nil }
    return constant.elements(as: Float.self)[0]
  }

  /// x, where `value` is `function(x)`.
  func operand(_ value: Graph.ValueID, of function: UnaryFunction) -> Graph.ValueID? {
    guard let (known, operand) = unary(value), known == function else { return nil }
    return operand
  }

  /// The unary function that computes `value`, and its operand.
  func unary(_ value: Graph.ValueID) -> (UnaryFunction, Graph.ValueID)? {
    guard let node = producer(of: value), case .unary(let unary) = node.operation,
      unary.output == .float32, let operand = node.input(0),
      graph[operand].type.elementType == .float32
    else { return nil }
    return (unary.function, operand)
  }

  func operands(
    _ value: Graph.ValueID, of function: BinaryFunction
  ) -> (left: Graph.ValueID, right: Graph.ValueID)? {
    guard let node = producer(of: value), case .binary(let binary) = node.operation,
      binary.function == function, binary.secondFunction == nil, binary.output == .float32,
      let left = node.input(0), let right = node.input(1),
      graph[value].type.elementType == .float32
    else { return nil }
    return (left, right)
  }

  /// The operands of a commutative function in both orders; empty if `value` is not its result.
  func pairs(
    _ value: Graph.ValueID, of function: BinaryFunction
  ) -> [(Graph.ValueID, Graph.ValueID)] {
    guard let (left, right) = operands(value, of: function) else { return [] }
    return [(left, right), (right, left)]
  }

  /// x and c, where `value` is x + c with a constant number c.
  func shifted(_ value: Graph.ValueID) -> (Graph.ValueID, Float)? {
    if case .affine(1, let offset)? = unary(value)?.0, let operand = unary(value)?.1 {
      return (operand, offset)
    }
    for (operand, number) in pairs(value, of: .add) {
      if let number = scalar(number) { return (operand, number) }
    }
    return nil
  }

  /// x, where `value` is x + `number`.
  func operand(_ value: Graph.ValueID, plus number: Float) -> Graph.ValueID? {
    shifted(value).flatMap { $1 == number ? $0 : nil }
  }

  /// x, where `value` is x · x.
  func square(_ value: Graph.ValueID) -> Graph.ValueID? {
    if let x = operand(value, of: .square) { return x }
    if let (left, right) = operands(value, of: .multiply), left == right { return left }
    return power(value, 2)
  }

  /// x, where `value` is x to the power of `exponent`.
  private func power(_ value: Graph.ValueID, _ exponent: Float) -> Graph.ValueID? {
    // An exponent with more axes than x would add axes to the result.
    guard let (base, given) = operands(value, of: .power), scalar(given) == exponent,
      shape(given).rank <= shape(base).rank
    else { return nil }
    return base
  }

  /// x, where `value` is √x.
  func squareRoot(_ value: Graph.ValueID) -> Graph.ValueID? {
    if let x = operand(value, of: .squareRoot) { return x }
    return power(value, 0.5)
  }

  /// x, where `value` is 1 / x.
  func reciprocal(_ value: Graph.ValueID) -> Graph.ValueID? {
    if let x = operand(value, of: .reciprocal) { return x }
    if let (one, x) = operands(value, of: .divide), scalar(one) == 1 { return x }
    return nil
  }

  /// x, where `value` is 1 / √x.
  func inverseSquareRoot(_ value: Graph.ValueID) -> Graph.ValueID? {
    if let base = power(value, -0.5) { return base }
    return reciprocal(value).flatMap { squareRoot(stripped($0)) }
      ?? squareRoot(value).flatMap { reciprocal($0) }
  }

  /// A nested product of numbers and values as one flat product.
  struct Factors {
    /// The product of all numbers.
    var scale: Double = 1
    /// Ascending.
    var values: [Graph.ValueID] = []
  }

  /// `value` as a flat product. Other nodes may read the factors too.
  func factors(_ value: Graph.ValueID, depth: Int = 6) -> Factors {
    if depth > 0 {
      if let (left, right) = operands(value, of: .multiply) {
        let (a, b) = (factors(left, depth: depth - 1), factors(right, depth: depth - 1))
        return Factors(scale: a.scale * b.scale, values: (a.values + b.values).sorted())
      }
      if let (left, right) = operands(value, of: .divide), let divisor = scalar(right) {
        var result = factors(left, depth: depth - 1)
        result.scale /= Double(divisor)
        return result
      }
      switch unary(value) {
      case (.affine(let scale, 0), let operand)?:
        var result = factors(operand, depth: depth - 1)
        result.scale *= Double(scale)
        return result
      case (.square, let operand)?:
        let half = factors(operand, depth: depth - 1)
        return Factors(
          scale: half.scale * half.scale, values: (half.values + half.values).sorted())
      default: break
      }
      if let (base, exponent) = operands(value, of: .power), scalar(exponent) == 3 {
        let one = factors(base, depth: depth - 1)
        return Factors(
          scale: one.scale * one.scale * one.scale,
          values: (one.values + one.values + one.values).sorted())
      }
    }
    if let number = scalar(value) { return Factors(scale: Double(number)) }
    return Factors(values: [value])
  }

  // MARK: Statistics along axes

  /// The value before nodes that only repeat it along axes of extent 1, or add or drop such axes.
  func stripped(_ value: Graph.ValueID) -> Graph.ValueID {
    var value = value
    // Behind an Expand, equal extents no longer identify an axis: in a square matrix, a repeated
    // row has the shape of a repeated column.
    var isRepeated = false
    while let node = producer(of: value), let input = node.input(0) {
      switch node.operation {
      case .expand where repeatsUnits(shape(input), as: shape(value)): isRepeated = true
      case .identity: break
      case .reshape where !isRepeated && hasSameAxes(input, value),
        .unsqueeze where !isRepeated && hasSameAxes(input, value),
        .squeeze where !isRepeated && hasSameAxes(input, value):
        break
      default: return value
      }
      value = input
    }
    return value
  }

  private func hasSameAxes(_ left: Graph.ValueID, _ right: Graph.ValueID) -> Bool {
    let axes = shape(left).axes.filter { $0 != 1 }
    return axes == shape(right).axes.filter { $0 != 1 } && !axes.contains(.free(""))
  }

  private func repeatsUnits(_ before: Shape, as after: Shape) -> Bool {
    guard before.rank <= after.rank else { return false }
    return zip(before.axes, after.axes.suffix(before.rank)).allSatisfy {
      $0 == 1 || ($0 == $1 && $0 != .free(""))
    }
  }

  /// A reduction of `source` along `axes`.
  struct Statistic {
    let kind: Reduction.Kind
    let source: Graph.ValueID
    let axes: [Int]
  }

  /// The statistic that `value` is, if it is one; a sum divided by its count is a mean.
  func statistic(_ value: Graph.ValueID) -> Statistic? {
    var inner = stripped(value)
    var divisor: Double?
    if let (left, right) = operands(inner, of: .divide), let number = scalar(right) {
      (inner, divisor) = (stripped(left), Double(number))
    } else {
      for (left, right) in pairs(inner, of: .multiply) {
        if let number = scalar(right), number != 0 {
          (inner, divisor) = (stripped(left), 1 / Double(number))
          break
        }
      }
      if divisor == nil, case (.affine(let scale, 0), let operand)? = unary(inner), scale != 0 {
        (inner, divisor) = (stripped(operand), 1 / Double(scale))
      }
    }
    guard let node = producer(of: inner), case .reduction(let reduction) = node.operation,
      reduction.output == .float32, let source = node.input(0),
      graph[source].type.elementType == .float32, !reduction.axes.isEmpty
    else { return nil }
    var kind = reduction.kind
    if let divisor {
      guard kind == .sum else { return nil }
      var count = 1.0
      for axis in reduction.axes {
        guard let extent = shape(source)[axis].extent else { return nil }
        count *= Double(extent)
      }
      guard abs(divisor / count - 1) < 1e-5 else { return nil }
      kind = .mean
    }
    return Statistic(kind: kind, source: source, axes: reduction.axes)
  }

  /// Whether `value` broadcasts against the statistic's source along exactly the reduced axes:
  /// their extent is 1, or the value is repeated along them.
  func isBroadcast(_ value: Graph.ValueID, _ statistic: Statistic) -> Bool {
    let (own, full) = (shape(value).axes, shape(statistic.source).axes)
    // Broadcasting aligns axes at the end.
    let added = full.count - own.count
    guard added >= 0 else { return false }
    return full.indices.allSatisfy { axis in
      let extent: Shape.Axis = axis < added ? 1 : own[axis - added]
      if statistic.axes.contains(axis) {
        return extent == 1 || (extent == full[axis] && extent != .free(""))
      }
      // Axes without a name are equal here: `stripped` skips no node that could have moved them.
      return extent == full[axis]
    }
  }
}

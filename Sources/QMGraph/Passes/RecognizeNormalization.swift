import QMOperations
import QMTensor

/// Given: a normalization that an exporter spelled out, over any axes:
///
///     d = x − mean(x)          variance = mean(d²), or mean(x²) − mean(x)²  (also max(0, ·) of it)
///     d / √(variance + ε)      also d · (1/√(variance + ε)), and with γ in any order
///     (…) · γ + β              also x · g + (β − mean · g) with g = γ/√(variance + ε)
///
/// A mean is a ReduceMean, or a sum divided by its count; γ and β are constants that vary only
/// along the normalized axes. Result: `LayerNormalization`, between two transposes if the axes are
/// not the last ones.
///
/// Given: √Σx², Σx² or log Σ exp x, spelled out. Result: one reduction.
///
/// Outputs are equal up to float rounding.
public struct RecognizeNormalization: Pass {
  public static let name = "recognize-normalization"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matcher = Matcher(graph)
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      if let found = matcher.normalization(node.outputs[0]) {
        try emit(found, node, &rewriter)
      } else if let (reduction, source) = matcher.reduction(node) {
        try rewriter.append(
          .reduction(reduction), name: node.name, [rewriter.value(source)],
          replacing: node.outputs)
      } else {
        try rewriter.copy(node)
      }
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private func emit(
    _ found: Normalization, _ node: Graph.Node, _ rewriter: inout Rewriter
  ) throws(QMError) {
    let rank = rewriter.source[found.source].type.shape.rank
    let others = (0..<rank).filter { !found.axes.contains($0) }
    let permutation = others + found.axes
    let isTransposed = permutation != Array(0..<rank)
    var inputs: [Graph.ValueID?] = [rewriter.value(found.source)]
    if isTransposed {
      inputs = try rewriter.append(
        .transpose(Transpose(permutation: permutation)), name: node.name + ".turned", inputs)
    }
    for (parameter, name) in [(found.scale, ".scale"), (found.bias, ".bias")] {
      inputs.append(
        try parameter.map { (parameter) throws(QMError) in
          rewriter.addConstant(
            name: node.name + name, try Tensor(found.parameterShape, parameter))
        })
    }
    while inputs.last == .some(nil) { inputs.removeLast() }
    let operation = Operation.layerNormalization(
      LayerNormalization(axis: others.count, epsilon: found.epsilon))
    guard isTransposed else {
      try rewriter.append(operation, name: node.name, inputs, replacing: node.outputs)
      return
    }
    let normalized = try rewriter.append(operation, name: node.name + ".normalized", inputs)
    var back = [Int](repeating: 0, count: rank)
    for (place, axis) in permutation.enumerated() { back[axis] = place }
    try rewriter.append(
      .transpose(Transpose(permutation: back)), name: node.name, normalized,
      replacing: node.outputs)
  }
}

/// `scale · (x − mean) / √(variance + ε) + bias` over some axes of x.
private struct Normalization {
  let source: Graph.ValueID
  /// Ascending.
  let axes: [Int]
  let epsilon: Float
  /// Row-major, of the shape ``parameterShape``.
  var scale: [Float]?
  var bias: [Float]?
  /// The extents of the normalized axes; shorter than ``axes`` if one of them is dynamic.
  let parameterShape: [Int]
}

private struct Matcher {
  let matching: Matching

  init(_ graph: Graph) { matching = Matching(graph) }

  // MARK: Reductions

  /// √Σx², log Σ exp x and Σx² as one reduction.
  func reduction(_ node: Graph.Node) -> (Reduction, Graph.ValueID)? {
    switch node.operation {
    case .unary(let unary) where unary.function == .squareRoot && unary.output == .float32:
      guard let (inner, source) = sum(node.input(0)) else { return nil }
      if inner.kind == .sumOfSquares {
        return (Reduction(.norm, axes: inner.axes, keepsAxes: inner.keepsAxes), source)
      }
      guard inner.kind == .sum, let x = matching.square(source) else { return nil }
      return (Reduction(.norm, axes: inner.axes, keepsAxes: inner.keepsAxes), x)
    case .unary(let unary) where unary.function == .logarithm && unary.output == .float32:
      guard let (inner, source) = sum(node.input(0)), inner.kind == .sum,
        let x = matching.operand(source, of: .exponential)
      else { return nil }
      return (
        Reduction(
          .logarithmOfSumOfExponentials, axes: inner.axes, keepsAxes: inner.keepsAxes), x
      )
    case .reduction(let reduction) where reduction.kind == .sum && reduction.output == .float32:
      guard let source = node.input(0), let x = matching.square(source) else { return nil }
      return (Reduction(.sumOfSquares, axes: reduction.axes, keepsAxes: reduction.keepsAxes), x)
    default: return nil
    }
  }

  private func sum(_ value: Graph.ValueID?) -> (Reduction, Graph.ValueID)? {
    guard let value, let node = matching.producer(of: value),
      case .reduction(let reduction) = node.operation, reduction.output == .float32,
      let source = node.input(0), matching.graph[source].type.elementType == .float32
    else { return nil }
    return (reduction, source)
  }

  // MARK: Normalizations

  /// The normalization whose last node computes `value`; nil if there is none.
  func normalization(_ value: Graph.ValueID) -> Normalization? {
    if let found = scaled(value) ?? distributed(value) { return found }
    for (inner, constant) in matching.pairs(value, of: .add)
    where matching.graph[constant].constant != nil && isPrivate(inner) {
      if var found = scaled(inner) ?? distributed(inner), found.bias == nil,
        let bias = parameter(constant, of: found)
      {
        found.bias = bias
        return found
      }
    }
    return nil
  }

  /// A core, possibly times γ, in any order of operands. γ is not merged into a core that other
  /// nodes read.
  private func scaled(_ value: Graph.ValueID) -> Normalization? {
    if let found = core(value) { return found }
    for (inner, constant) in matching.pairs(value, of: .multiply) {
      if isPrivate(inner), var found = core(inner), found.scale == nil,
        let scale = parameter(constant, of: found)
      {
        found.scale = scale
        return found
      }
    }
    return nil
  }

  private func isPrivate(_ value: Graph.ValueID) -> Bool {
    matching.uses.onlyConsumer(of: value) != nil
  }

  /// 1 / √radicand, possibly times γ.
  private struct Gain {
    let radicand: Graph.ValueID
    /// The value without γ; its shape says along which axes it broadcasts.
    let place: Graph.ValueID
    var scale: Graph.ValueID?
  }

  /// d / √(variance + ε), possibly with γ among the factors.
  private func core(_ value: Graph.ValueID) -> Normalization? {
    if let (numerator, denominator) = matching.operands(value, of: .divide) {
      guard let radicand = matching.squareRoot(matching.stripped(denominator)) else { return nil }
      return centred(numerator, Gain(radicand: radicand, place: denominator))
    }
    for (left, right) in matching.pairs(value, of: .multiply) {
      if let gain = gain(right), let found = centred(left, gain) { return found }
    }
    return nil
  }

  private func gain(_ value: Graph.ValueID) -> Gain? {
    if let radicand = matching.inverseSquareRoot(matching.stripped(value)) {
      return Gain(radicand: radicand, place: value)
    }
    for (left, right) in matching.pairs(value, of: .multiply)
    where matching.graph[right].constant != nil {
      if let radicand = matching.inverseSquareRoot(matching.stripped(left)) {
        return Gain(radicand: radicand, place: left, scale: right)
      }
    }
    if let (numerator, denominator) = matching.operands(value, of: .divide),
      matching.graph[numerator].constant != nil,
      let radicand = matching.squareRoot(matching.stripped(denominator))
    {
      return Gain(radicand: radicand, place: denominator, scale: numerator)
    }
    return nil
  }

  /// (x − mean(x)), possibly times γ, times the gain.
  private func centred(_ numerator: Graph.ValueID, _ gain: Gain) -> Normalization? {
    if let mean = difference(numerator) { return normalization(mean, gain) }
    guard gain.scale == nil else { return nil }
    for (left, right) in matching.pairs(numerator, of: .multiply)
    where matching.graph[right].constant != nil {
      var scaled = gain
      scaled.scale = right
      if let mean = difference(left), let found = normalization(mean, scaled) { return found }
    }
    return nil
  }

  /// x · g + (β − mean(x) · g), with g = γ/√(variance + ε); also x · g − (mean(x) · g − β).
  private func distributed(_ value: Graph.ValueID) -> Normalization? {
    for (product, rest) in matching.pairs(value, of: .add) {
      for (x, g) in matching.pairs(product, of: .multiply) {
        guard let gain = gain(g),
          let (bias, shift) = matching.operands(rest, of: .subtract)
        else { continue }
        for (mean, again) in matching.pairs(shift, of: .multiply) where again == g {
          guard let statistic = matching.statistic(mean), statistic.kind == .mean,
            statistic.source == x, matching.isBroadcast(mean, statistic),
            var found = normalization(statistic, gain),
            let numbers = parameter(bias, of: found)
          else { continue }
          found.bias = numbers
          return found
        }
      }
    }
    return nil
  }

  /// mean(x), where `value` is x − mean(x).
  private func difference(_ value: Graph.ValueID) -> Matching.Statistic? {
    guard let (x, mean) = matching.operands(value, of: .subtract),
      let statistic = matching.statistic(mean), statistic.kind == .mean, statistic.source == x,
      matching.isBroadcast(mean, statistic)
    else { return nil }
    return statistic
  }

  /// The normalization of the mean's source; nil unless the radicand is its variance plus ε.
  private func normalization(_ mean: Matching.Statistic, _ gain: Gain) -> Normalization? {
    let radicand = matching.stripped(gain.radicand)
    let (variance, epsilon) = matching.shifted(radicand) ?? (radicand, 0)
    guard epsilon >= 0, matching.isBroadcast(gain.place, mean), isVariance(variance, of: mean)
    else { return nil }
    var shape: [Int] = []
    for axis in mean.axes {
      guard let extent = matching.shape(mean.source)[axis].extent else { break }
      shape.append(extent)
    }
    var found = Normalization(
      source: mean.source, axes: mean.axes, epsilon: epsilon, parameterShape: shape)
    if let scale = gain.scale {
      guard let numbers = parameter(scale, of: found) else { return nil }
      found.scale = numbers
    }
    return found
  }

  private func isVariance(_ value: Graph.ValueID, of mean: Matching.Statistic) -> Bool {
    var value = matching.stripped(value)
    if let inner = matching.operand(value, of: .relu) { value = matching.stripped(inner) }
    for (zero, inner) in matching.pairs(value, of: .maximum) where matching.scalar(zero) == 0 {
      value = matching.stripped(inner)
    }
    if let statistic = meanOfSquares(value), statistic.axes == mean.axes,
      let centred = difference(statistic.source), centred.source == mean.source,
      centred.axes == mean.axes
    {
      return true
    }
    guard let (left, right) = matching.operands(value, of: .subtract),
      let squares = meanOfSquares(left), squares.source == mean.source,
      squares.axes == mean.axes, let root = matching.square(matching.stripped(right)),
      let other = matching.statistic(root), other.kind == .mean, other.source == mean.source,
      other.axes == mean.axes
    else { return false }
    return matching.shape(left) == matching.shape(right)
  }

  /// The mean of x over the same axes, where `value` is the mean of x².
  private func meanOfSquares(_ value: Graph.ValueID) -> Matching.Statistic? {
    guard let statistic = matching.statistic(value) else { return nil }
    if statistic.kind == .mean, let x = matching.square(statistic.source) {
      return Matching.Statistic(kind: .mean, source: x, axes: statistic.axes)
    }
    return nil
  }

  /// γ or β with one number per element of the normalized axes, row-major; nil if it is not a
  /// constant or varies along another axis.
  private func parameter(_ value: Graph.ValueID, of found: Normalization) -> [Float]? {
    let rank = matching.shape(found.source).rank
    guard let constant = matching.graph[value].constant, constant.elementType == .float32,
      !matching.graph[value].isParameter, constant.shape.count <= rank,
      found.parameterShape.count == found.axes.count,
      let count = Shape.elementCount(of: found.parameterShape), count > 0
    else { return nil }
    let added = rank - constant.shape.count
    var strides = [Int](repeating: 0, count: rank)
    var stride = 1
    for axis in constant.shape.indices.reversed() {
      let extent = constant.shape[axis]
      guard extent != 1 else { continue }
      guard let place = found.axes.firstIndex(of: axis + added),
        extent == found.parameterShape[place]
      else { return nil }
      strides[axis + added] = stride
      stride *= extent
    }
    let elements = constant.elements(as: Float.self)
    guard elements.count == stride else { return nil }
    return (0..<count).map { index in
      var (rest, offset) = (index, 0)
      for (axis, extent) in zip(found.axes, found.parameterShape).reversed() {
        offset += rest % extent * strides[axis]
        rest /= extent
      }
      return elements[offset]
    }
  }
}

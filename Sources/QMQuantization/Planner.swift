import QMGraph
import QMOperations
import QMTensor

/// Decides, for a float graph after its passes, what becomes codes.
public struct Planner {
  public let graph: Graph
  public let recipe: Recipe
  private let groups: GridGroups
  /// Why the values of a group stay real numbers.
  private var kept: [Int: Plan.Kept] = [:]
  private var floatNodes: Set<Int> = []
  /// Of nodes whose weights have a width of their own.
  private var widths: [Int: BitWidth] = [:]

  /// - Parameters:
  ///   - graph: in float, after the passes.
  ///   - recipe: what is asked for.
  ///   - kept: values that stay float32, beside those that the structure of the network shows, and
  ///     why.
  /// - Throws: `usage` if a pattern of the recipe fits no node.
  public init(
    _ graph: Graph, _ recipe: Recipe, keeping kept: [Graph.ValueID: Plan.Kept] = [:]
  ) throws(QMError) {
    self.graph = graph
    self.recipe = recipe
    let tail = OutputTail(graph).values
    groups = GridGroups(graph, tail: tail)
    for pattern in recipe.floatNodes { floatNodes.formUnion(try pattern.nodes(of: graph)) }
    for rule in recipe.widths {
      for node in try rule.nodes.nodes(of: graph) { widths[node] = rule.width }
    }
    for value in tail { self.kept[groups.group(of: value)] = .outputTail }
    // What a product reads is worth a test of its own: most of the work may lie behind it.
    let products = groupsOfProducts
    for value in SignalFront(graph).values where !products.contains(groups.group(of: value)) {
      self.kept[groups.group(of: value)] = .signalFront
    }
    for (value, reason) in kept { self.kept[groups.group(of: value)] = reason }
  }

  /// Values that hold the same elements in another arrangement share a grid: the group of each.
  func group(of value: Graph.ValueID) -> Int { groups.group(of: value) }

  /// Of each value whose group rounding damages too much, why it stays a real number.
  func kept(_ damaging: [Int: Double]) -> [Graph.ValueID: Plan.Kept] {
    var kept: [Graph.ValueID: Plan.Kept] = [:]
    for value in quantizableActivations {
      if let ratio = damaging[group(of: value)] { kept[value] = .damage(ratio) }
    }
    return kept
  }

  /// What is worth seeing of the samples before ``plan(with:)``.
  public var observations: Set<Observation> {
    guard case .codes = recipe.weights else { return [] }
    var observations: Set<Observation> = []
    for (index, node) in graph.nodes.enumerated()
    where constantWeights(of: node) != nil && !floatNodes.contains(index) {
      if let input = node.input(ProductOperand.input) { observations.insert(.means(input)) }
    }
    guard recipe.activations == .int8 else { return observations }
    for value in quantizableActivations where analyticRange(of: value) == nil {
      observations.insert(
        recipe.rangeEstimator == .minMax ? .range(value) : .histogram(value))
    }
    return observations
  }

  /// What is worth seeing once the grids of a plan are known: the means of the inputs of products
  /// on them. Recurrent networks feed back what a corrected bias shifts, and are left as they are.
  func observations(of plan: Plan) -> Set<Observation> {
    var observations: Set<Observation> = []
    for (index, node) in graph.nodes.enumerated() {
      if case .recurrent = node.operation { return [] }
      if constantWeights(of: node) != nil, !floatNodes.contains(index),
        let input = node.input(ProductOperand.input),
        case .fixed(let grid) = plan.activations[input]
      {
        observations.insert(.roundedMeans(input, grid))
      }
    }
    return observations
  }

  /// The plan.
  /// - Parameter statistics: of ``observations``; they may be missing where no grid is fixed.
  public func plan(with statistics: Statistics = Statistics()) throws(QMError) -> Plan {
    try plan(with: statistics, rounded: [:])
  }

  /// - Parameter rounded: weights as another plan of the same graph and recipe has them.
  func plan(
    with statistics: Statistics, rounded known: [Graph.ValueID: Plan.Weights]
  ) throws(QMError) -> Plan {
    var plan = Plan()
    plan.weights = known
    guard case .codes(let bits) = recipe.weights else { return plan }
    plan.floatNodes = floatNodes
    for (index, node) in graph.nodes.enumerated() where !floatNodes.contains(index) {
      let width = widths[index] ?? bits
      let rounding = NearestRounding(bits: width, granularity: recipe.granularity)
      if let weights = recurrentWeights(of: node) {
        try round(weights, of: node, rounding, into: &plan)
        // Its grids are found in the run, whatever the recipe says of others.
        if recipe.activations != .float, let input = node.input(RecurrentOperand.input) {
          plan.activations[input] = .dynamic
        }
        continue
      }
      if let table = embedding(of: node) {
        let rows = NearestRounding(bits: width, granularity: .perChannel(axis: 0))
        try round([table], of: node, rows, into: &plan)
        continue
      }
      guard let weights = constantWeights(of: node) else { continue }
      let product = NearestRounding(
        bits: width, granularity: granularity(of: weights, in: node))
      try round([weights], of: node, product, into: &plan)
      let bias = node.input(ProductOperand.bias).map { graph[$0].constant }
      if let input = node.input(ProductOperand.input), let means = statistics.means[input],
        let constant = graph[weights].constant, let rounded = plan.weights[weights],
        bias.map({ $0 != nil }) ?? true
      {
        plan.biases[index] = try BiasCorrection.corrected(
          bias.flatMap { $0 }, weights: constant, rounded: rounded, means: means.means,
          roundedMeans: (statistics.roundedMeans[input] ?? means).means)
      }
      if recipe.activations == .dynamic, let input = node.input(ProductOperand.input) {
        plan.activations[input] = .dynamic
      }
    }
    guard recipe.activations == .int8 else { return plan }

    var ranges: [Int: (low: Float, high: Float)] = [:]
    let wide = wideGroups(plan)
    let products = groupsOfProducts
    var kept = kept.filter { (group, reason) in
      if case .damage(let ratio) = reason, ratio >= Planner.toleratedByProducts,
        products.contains(group)
      {
        return false
      }
      return !wide.contains(group)
    }
    for value in codedActivations {
      guard let seen = statistics[value], seen.nonFiniteCount > 0 else { continue }
      guard !graph.inputs.contains(value) else {
        throw QMError.invalidInput(
          "\(seen.nonFiniteCount) of its elements are NaN or infinite over the samples; remove the samples that cause it"
        ).within(.value(graph[value].name))
      }
      kept[group(of: value)] = .nonFinite
    }
    let activations = codedActivations.filter { kept[group(of: $0)] == nil }
    var covered: Set<Graph.ValueID> = []
    var unseen: Set<Graph.ValueID> = []
    for value in activations {
      let range: ClosedRange<Float>
      if let analytic = analyticRange(of: value) {
        range = analytic
      } else if let seen = statistics[value], !groups.isMoved(value, fromAnyOf: unseen) {
        range = recipe.rangeEstimator.range(of: seen)
      } else {
        // In a branch that no sample takes, or one side of a choice is.
        if groups.isMoved(value, fromAllOf: covered) {
          covered.insert(value)
        } else {
          unseen.insert(value)
        }
        continue
      }
      covered.insert(value)
      let group = groups.group(of: value)
      let known = ranges[group] ?? (0, 0)
      ranges[group] = (min(known.low, range.lowerBound), max(known.high, range.upperBound))
    }
    for value in activations where covered.contains(value) {
      guard let range = ranges[group(of: value)] else { continue }
      plan.activations[value] = .fixed(
        wide.contains(group(of: value))
          ? Plan.Grid(wide: max(-range.low, range.high))
          : Plan.Grid(covering: range.low, range.high))
    }
    for value in codedActivations {
      if let reason = kept[group(of: value)] { plan.kept[value] = reason }
    }
    for value in unseen { plan.kept[value] = .unseen }
    for (index, node) in graph.nodes.enumerated() where !floatNodes.contains(index) {
      if constantWeights(of: node) != nil, let input = node.input(ProductOperand.input),
        unseen.contains(input)
      {
        plan.activations[input] = .dynamic
      }
    }
    return plan
  }

  /// Signal to noise, as a ratio of powers, below which a product is worth running in float32:
  /// 20 dB. Anything that costs less time becomes wider sooner, see ``DamageTest/tolerated``.
  private static let toleratedByProducts = 100.0

  /// Groups that products read.
  private var groupsOfProducts: Set<Int> {
    var groups: Set<Int> = []
    for node in graph.nodes {
      switch node.operation {
      case .convolution, .matrixMultiply:
        for position in [ProductOperand.input, ProductOperand.weights] {
          if let operand = node.input(position) { groups.insert(group(of: operand)) }
        }
      default: break
      }
    }
    return groups
  }

  /// The groups that int8 damages and whose every reader takes int16: products with weights whose
  /// sums are proven to stay within 32 bits.
  private func wideGroups(_ plan: Plan) -> Set<Int> {
    var wide: Set<Int> = []
    for (group, reason) in kept {
      if case .damage = reason { wide.insert(group) }
    }
    for (index, node) in graph.nodes.enumerated() where !floatNodes.contains(index) {
      let operands = integerOperands(of: node)
      for (position, input) in node.inputs.enumerated() {
        guard let input, wide.contains(group(of: input)) else { continue }
        if operands.contains(input) {
          guard position == ProductOperand.input, takesInt16(node, plan) else {
            wide.remove(group(of: input))
            continue
          }
        } else if case .resize = node.operation {
          wide.remove(group(of: input))
        }
      }
    }
    return wide
  }

  private func takesInt16(_ node: Graph.Node, _ plan: Plan) -> Bool {
    guard let weights = constantWeights(of: node),
      let codes = (graph[weights].codes ?? plan.weights[weights])?.codes
    else { return false }
    if case .convolution(let convolution) = node.operation {
      guard convolution.groups == 1 || (codes.shape.last ?? 1) > 1 else { return false }
    }
    let size = codes.elementCount / max(codes.shape.first ?? 1, 1)
    // Half of the accumulator's range belongs to the bias.
    let limit = 1 << 30
    return codes.withElements(as: Int8.self) { codes in
      stride(from: 0, to: codes.count, by: max(size, 1)).allSatisfy { first in
        codes[first..<first + size].reduce(0) { $0 + abs(Int($1)) } * 65535 < limit
      }
    }
  }

  /// Of the weights of a product: by group, if the recipe asks for groups and there are several.
  private func granularity(of weights: Graph.ValueID, in node: Graph.Node) -> Granularity {
    guard let size = recipe.groupSize, let shape = graph[weights].constant?.shape,
      let channels = shape.last, channels > size
    else { return recipe.granularity }
    if case .convolution(let convolution) = node.operation {
      guard convolution.order == .channelsLast, convolution.groups == 1, !convolution.isTransposed
      else { return recipe.granularity }
    }
    return .perGroup(axis: shape.count - 1, size: size)
  }

  private func round(
    _ weights: [Graph.ValueID], of node: Graph.Node, _ rounding: NearestRounding,
    into plan: inout Plan
  ) throws(QMError) {
    for weights in weights {
      guard plan.weights[weights] == nil, let constant = graph[weights].constant else { continue }
      plan.weights[weights] = try within(
        .node(name: node.name, operation: node.operation.name)
      ) { () throws(QMError) in try rounding.quantize(constant) }
    }
  }

  /// The activations that get a grid.
  private var quantizableActivations: [Graph.ValueID] {
    codedActivations.filter { kept[groups.group(of: $0)] == nil }
  }

  /// float32 activations that a node with an integer form reads, and those that hold the same
  /// elements on the way there or from there.
  private var codedActivations: [Graph.ValueID] {
    func isActivation(_ value: Graph.ValueID) -> Bool {
      graph[value].constant == nil && graph[value].type.elementType == .float32
    }
    var groupsOfCodes: Set<Int> = []
    for (index, node) in graph.nodes.enumerated() where !floatNodes.contains(index) {
      for value in integerOperands(of: node) where isActivation(value) {
        groupsOfCodes.insert(groups.group(of: value))
      }
    }
    var seen: Set<Graph.ValueID> = []
    var activations: [Graph.ValueID] = []
    for node in graph.nodes {
      for case .some(let value) in node.inputs
      where isActivation(value) && groupsOfCodes.contains(groups.group(of: value))
        && seen.insert(value).inserted
      {
        activations.append(value)
      }
    }
    return activations
  }

  /// The operands that the node reads as codes, if it has a form on integers.
  private func integerOperands(of node: Graph.Node) -> [Graph.ValueID] {
    switch node.operation {
    case .convolution, .matrixMultiply:
      guard let right = node.input(ProductOperand.weights),
        constantWeights(of: node) != nil || graph[right].constant == nil
      else { return [] }
      var operands = [node.input(ProductOperand.input), right].compactMap { $0 }
      if let residual = node.input(ProductOperand.residual) {
        operands.append(residual)
      }
      return operands
    case .unary, .pooling, .softmax, .layerNormalization, .groupNormalization:
      return node.inputs.prefix(1).compactMap { $0 }
    case .reduction(let reduction):
      let hasIntegerForm: Bool
      switch reduction.kind {
      case .mean, .sum, .maximum, .minimum: hasIntegerForm = true
      default: hasIntegerForm = false
      }
      return hasIntegerForm ? node.inputs.compactMap { $0 } : []
    case .binary(let binary):
      let hasIntegerForm: Bool
      switch binary.function {
      case .add, .subtract, .multiply, .minimum, .maximum: hasIntegerForm = true
      case .parametricRelu: return node.inputs.prefix(1).compactMap { $0 }
      case .divide, .power, .remainder: hasIntegerForm = false
      }
      return hasIntegerForm ? node.inputs.compactMap { $0 } : []
    case .recurrent, .identity, .reshape, .flatten, .squeeze, .unsqueeze, .transpose, .concatenate,
      .split,
      .slice, .pad, .gather, .expand, .tile, .shapeOf, .fill, .cast, .table,
      .batchNormalization, .quantize, .dynamicQuantize, .dequantize, .comparison, .logic,
      .classification, .select, .argExtreme, .topK, .cumulativeSum, .progression, .oneHot,
      .triangle, .resize, .gatherElements, .gatherND, .scatterElements, .scatterND, .nonZero,
      .depthToSpace, .spaceToDepth, .choice:
      return []
    }
  }

  /// The constant float weights of a product.
  private func constantWeights(of node: Graph.Node) -> Graph.ValueID? {
    switch node.operation {
    case .convolution:
      break
    case .matrixMultiply(let product):
      guard product.rightLayout == .channelsFirst,
        let right = node.input(ProductOperand.weights), graph[right].type.shape.rank == 2
      else { return nil }
    default:
      return nil
    }
    guard let weights = node.input(ProductOperand.weights),
      graph[weights].constant?.elementType == .float32
    else { return nil }
    return weights
  }

  /// The table whose rows the node looks up.
  private func embedding(of node: Graph.Node) -> Graph.ValueID? {
    guard case .gather(let gather) = node.operation, gather.axis == 0, let table = node.input(0),
      let constant = graph[table].constant, constant.elementType == .float32,
      constant.shape.count == 2, constant.shape[1] > 1
    else { return nil }
    return table
  }

  /// Both constant float weights of a recurrent layer.
  private func recurrentWeights(of node: Graph.Node) -> [Graph.ValueID]? {
    guard case .recurrent = node.operation,
      let weights = node.input(RecurrentOperand.weights),
      let recurrence = node.input(RecurrentOperand.recurrence),
      [weights, recurrence].allSatisfy({ graph[$0].constant?.elementType == .float32 })
    else { return nil }
    return [weights, recurrence]
  }

  /// The range that the function behind a value cannot leave.
  func analyticRange(of value: Graph.ValueID) -> ClosedRange<Float>? {
    guard let node = groups.producer(of: value) else { return nil }
    let function: UnaryFunction?
    switch node.operation {
    case .unary(let unary): function = unary.function
    case .convolution(let convolution): function = convolution.epilogue.functions.last
    case .matrixMultiply(let product): function = product.epilogue.functions.last
    case .binary(let binary): function = binary.then
    case .softmax(let softmax) where softmax.kind == .softmax: return 0...1
    default: function = nil
    }
    switch function {
    case .sigmoid, .hardSigmoid: return 0...1
    case .tanh, .erf: return -1...1
    default: return nil
    }
  }
}

/// Values whose elements are the same numbers: what moves elements, or picks some, makes its
/// output one of its input's group, and a concatenation joins the groups of its inputs, a choice
/// those of its sides.
private struct GridGroups {
  private var parents: [Int]
  private let graph: Graph
  private let producers: [Graph.ValueID: Int]

  static func keepsGrid(_ operation: Operation) -> Bool {
    switch operation {
    case .identity, .reshape, .flatten, .squeeze, .unsqueeze, .transpose, .concatenate, .split,
      .slice, .pad, .gather, .expand, .tile, .triangle, .gatherElements, .gatherND, .depthToSpace,
      .spaceToDepth, .choice:
      true
    case .resize(let resize):
      if case .nearest = resize.mode { resize.coordinates != .region } else { false }
    case .pooling(let pooling): pooling.kind == .maximum
    case .reduction(let reduction): reduction.kind == .maximum || reduction.kind == .minimum
    default: false
    }
  }

  /// - Parameter tail: values that lead to outputs alone. One that holds the elements of a value
  ///   that layers read as well, has no part in that value's grid: states that a network gives back
  ///   would lose what lies beside them.
  init(_ graph: Graph, tail: Set<Graph.ValueID>) {
    self.graph = graph
    parents = Array(graph.values.indices)
    var producers: [Graph.ValueID: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    self.producers = producers
    for node in graph.nodes where GridGroups.keepsGrid(node.operation) {
      for input in GridGroups.moved(by: node) {
        for output in node.outputs where tail.contains(input) || !tail.contains(output) {
          join(input.index, output.index)
        }
      }
    }
  }

  /// The inputs whose elements the outputs of a node that keeps the grid are.
  private static func moved(by node: Graph.Node) -> [Graph.ValueID] {
    switch node.operation {
    case .concatenate: node.inputs.compactMap { $0 }
    case .choice: node.inputs.dropFirst().compactMap { $0 }
    default: node.inputs.prefix(1).compactMap { $0 }
    }
  }

  /// The values whose elements the elements of a value are, if it moves some.
  private func origins(of value: Graph.ValueID) -> [Graph.ValueID] {
    guard let node = producer(of: value), GridGroups.keepsGrid(node.operation) else { return [] }
    return GridGroups.moved(by: node).filter { graph[$0].constant == nil }
  }

  /// Whether each element of a value is one of these values', or of a constant.
  func isMoved(_ value: Graph.ValueID, fromAllOf known: Set<Graph.ValueID>) -> Bool {
    let origins = origins(of: value)
    return !origins.isEmpty && origins.allSatisfy(known.contains)
  }

  /// Whether an element of a value may be one of these values'.
  func isMoved(_ value: Graph.ValueID, fromAnyOf values: Set<Graph.ValueID>) -> Bool {
    origins(of: value).contains(where: values.contains)
  }

  func group(of value: Graph.ValueID) -> Int { root(value.index) }

  /// The node that computes a value.
  func producer(of value: Graph.ValueID) -> Graph.Node? {
    producers[value].map { graph.nodes[$0] }
  }

  private func root(_ index: Int) -> Int {
    var index = index
    while parents[index] != index { index = parents[index] }
    return index
  }

  private mutating func join(_ left: Int, _ right: Int) {
    let (low, high) = (min(root(left), root(right)), max(root(left), root(right)))
    parents[high] = low
  }
}

import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// The state that the steps of a conversion read and change.
struct ConversionState {
  /// The float graph after the passes.
  var graph: Graph
  /// Its weights may change before the first step, but not from codes to float32.
  var recipe: Recipe
  private(set) var groups: ParameterGroups
  /// Indices of the nodes that the recipe keeps in float32.
  let floatNodes: Set<Int>
  /// Widths of weights for which the recipe has a rule, by index of the node.
  let widths: [Int: BitWidth]
  /// Runs of the float network on the samples; nil without samples.
  let reference: ReferenceRuns?
  /// The first reader of each value, where the value is observed.
  let places: [Graph.ValueID: OperandPlace]

  var plan: Plan
  /// Why the values of a group stay float32, whatever their errors are.
  var reasons: [Int: FloatReason] = [:]
  /// The values that stay float32 although integer operations could read them as codes.
  var floatReasons: [Graph.ValueID: FloatReason] = [:]
  /// Inputs that are quantized dynamically, whatever the samples show.
  var dynamic: Set<Graph.ValueID> = []
  var statistics = Statistics()
  /// The factored covariances of the windows of weights, where there are enough windows.
  var covariances: [OperandPlace: InputCovariance] = [:]
  /// The mean of each element of the windows of weights.
  var windowMeans: [OperandPlace: [Double]] = [:]
  /// Kernels and threads of the steps' own products.
  let kernels: KernelSet
  let threads: ThreadPool
  /// What roundings of the weights have shown, for all conversions of the same network.
  let knownRoundings = KnownRoundings()
  /// What free grids made of the weights; empty for fixed ones.
  var roundedWeights: [RoundedWeights] = []
  /// The choices of activations that were measured.
  var alternatives: [Conversion.Alternative] = []
  /// Values on which only outputs depend.
  private let tail: Set<Graph.ValueID>
  /// The spectral front end of the network.
  let front: SpectralFrontEnd
  /// The steep functions of the network.
  let steepFunctions: SteepFunctions

  /// A weight tensor after rounding.
  struct RoundedWeights {
    /// Index of the node.
    let node: Int
    let value: Graph.ValueID
    /// Number of weights.
    let count: Int
    /// Estimated size in the file, in bits.
    let bits: Int
    /// What its rounding adds to the error of the network's outputs, relative to their signal.
    let outputError: Double
  }

  /// - Throws: `usage` if a pattern of the recipe matches no node.
  init(
    _ graph: Graph, _ recipe: Recipe, reference: ReferenceRuns?, _ options: Model.Options
  ) throws(QMError) {
    kernels = options.kernels
    threads = ThreadPool(threadCount: options.threadCount)
    self.graph = graph
    plan = Plan(for: graph)
    self.recipe = recipe
    self.reference = reference
    places = graph.firstReaders
    let tail = OutputTail(graph).values
    groups = ParameterGroups(graph, tail: tail)
    var floatNodes: Set<Int> = []
    for pattern in recipe.floatNodes { floatNodes.formUnion(try pattern.nodes(of: graph)) }
    if reference?.areMade ?? true { floatNodes.formUnion(graph.productsOfUnknownMeans) }
    self.floatNodes = floatNodes
    var widths: [Int: BitWidth] = [:]
    for rule in recipe.widths {
      for node in try rule.nodes.nodes(of: graph) { widths[node] = rule.width }
    }
    self.widths = widths
    plan.floatNodes = recipe.weights == .float32 ? [] : floatNodes
    self.tail = tail
    front = SpectralFrontEnd(graph)
    steepFunctions = SteepFunctions(graph)
    keepByPlace()
  }

  /// Keeps the values in float32 whose place in the graph says so.
  private mutating func keepByPlace() {
    reasons = [:]
    for value in tail { reasons[groups.group(of: value)] = .outputTail }
    // Inputs of convolutions and matrix products are measured instead of being kept in float32 up
    // front: most of the run time may depend on them.
    let products = groupsOfProducts
    for value in front.values
    where front.spectra.contains(value) || !products.contains(groups.group(of: value)) {
      reasons[groups.group(of: value)] = .spectralFrontEnd
    }
  }

  /// Keeps what the steps need of second moments: their factored covariance, which takes less memory,
  /// and the means.
  mutating func take(_ moments: SecondMoments, at place: OperandPlace) throws(QMError) {
    // Where no bias is corrected, errors must not have a mean either.
    let node = graph.nodes[place.node]
    let isCentred =
      if case .recurrent = node.operation { false } else { !steepFunctions.follow(node) }
    windowMeans[place] = moments.count > 0 ? moments.means : nil
    // Compensation makes some small weights of a filter bank negative, and then some of its sums, of
    // which the logarithm is NaN.
    if let input = node.input(0), front.spectra.contains(input) { return }
    covariances[place] = try InputCovariance(
      moments, isCentred: isCentred, kernels: kernels, threads: threads)
  }

  /// Whether weights are rounded to fixed or free grids.
  var grid: Recipe.Grid {
    guard recipe.grid == .auto else { return recipe.grid }
    guard recipe.groupSize == nil, !graph.isQuantized else { return .fixed }
    // Only a free grid has fractions of a bit.
    let isFree = recipe.weights.codeWidth == nil || recipe.weights.bits < 8 && reference != nil
    return isFree ? .free : .fixed
  }

  /// Divides groups whose values have ranges of unlike size over the samples.
  mutating func separateRanges() {
    var magnitudes: [Graph.ValueID: Float] = [:]
    for value in graph.nodes.flatMap({ $0.inputs.compactMap { $0 } + $0.outputs }) {
      if let constant = graph[value].constant {
        guard constant.elementType == .float32 else { continue }
        magnitudes[value] = constant.elements(as: Float.self).reduce(0) { max($0, abs($1)) }
      } else if let range = groups.analyticRange(of: value) {
        magnitudes[value] = max(-range.lowerBound, range.upperBound)
      } else if let seen = statistics(of: value), seen.elementCount > 0 {
        magnitudes[value] = max(-seen.minimum, seen.maximum)
      }
    }
    groups = ParameterGroups(graph, tail: tail, magnitudes: magnitudes)
    keepByPlace()
  }

  /// Keeps the groups in float32 that are NaN or infinite on some samples.
  /// - Throws: `invalidInput` if an input of the network is.
  mutating func keepNonFinite() throws(QMError) {
    for value in codedActivations {
      guard let seen = statistics(of: value), seen.nonFiniteCount > 0 else { continue }
      guard !graph.inputs.contains(value) else {
        throw QMError.invalidInput(
          "\(seen.nonFiniteCount) elements are NaN or infinite over the samples; remove the samples that cause this"
        ).within(.value(graph[value].name))
      }
      reasons[groups.group(of: value)] = .nonFinite
    }
  }

  /// The statistics of a value; nil if no sample computes it.
  func statistics(of value: Graph.ValueID) -> ValueStatistics? {
    places[value].flatMap { statistics.values[$0] }
  }

  // MARK: Nodes and values of the graph

  /// Nodes that may run on integers, with their indices.
  var quantizableNodes: [(index: Int, node: Graph.Node)] {
    graph.nodes.enumerated().filter { !floatNodes.contains($0.offset) }
      .map { (index: $0.offset, node: $0.element) }
  }

  /// The constant float weights of a convolution or matrix product.
  func constantWeights(of node: Graph.Node) -> Graph.ValueID? {
    if case .recurrent = node.operation { return nil }
    return floatWeights(of: node, used: .product).first?.value
  }

  /// The constant float table in which the node looks up rows.
  func embedding(of node: Graph.Node) -> Graph.ValueID? {
    guard let table = floatWeights(of: node, used: .table).first, table.channelAxis == 0,
      let shape = graph[table.value].constant?.shape, shape.count == 2, shape[1] > 1
    else { return nil }
    return table.value
  }

  /// Both constant float weights of a recurrent layer.
  func recurrentWeights(of node: Graph.Node) -> [Graph.ValueID]? {
    guard case .recurrent = node.operation else { return nil }
    let weights = floatWeights(of: node, used: .product).map(\.value)
    return weights.count == 2 ? weights : nil
  }

  /// Constant float weights that the node uses in this way, with the axis of their channels or
  /// rows.
  private func floatWeights(
    of node: Graph.Node, used use: WeightOperand.Use
  ) -> [(value: Graph.ValueID, channelAxis: Int)] {
    node.operation.body.weightOperands(of: graph.operands(of: node)).compactMap { weights in
      guard weights.use == use, let value = node.input(weights.position),
        graph[value].constant?.elementType == .float32
      else { return nil }
      return (value, weights.channelAxis)
    }
  }

  /// The operands that should be codes so that the node runs on integers; empty without integer
  /// form.
  func integerOperands(of node: Graph.Node) -> [Graph.ValueID] {
    // The integer convolution takes no activations as weights: rounding them gains nothing.
    if case .convolution = node.operation, let weights = node.input(ProductOperand.weights),
      graph[weights].constant == nil
    {
      return []
    }
    guard let form = node.operation.body.integerForm(of: graph.operands(of: node)),
      form.asksForCodes
    else { return [] }
    return form.operands.compactMap(node.input)
  }

  /// The groups of values that products read.
  var groupsOfProducts: Set<Int> {
    var groups: Set<Int> = []
    for node in graph.nodes {
      for sum in node.operation.body.accumulators.products {
        guard let input = sum.input else { continue }
        for operand in [input, sum.weights].compactMap(node.input) {
          groups.insert(self.groups.group(of: operand))
        }
      }
    }
    return groups
  }

  /// The float32 activations that a node with an integer form reads, and all other activations of
  /// their groups, which hold the same elements before or after data movement.
  var codedActivations: [Graph.ValueID] {
    func isActivation(_ value: Graph.ValueID) -> Bool {
      graph[value].constant == nil && graph[value].type.elementType == .float32
    }
    var groupsOfCodes: Set<Int> = []
    for (_, node) in quantizableNodes {
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

  /// The coded activations without a reason against int8 so far.
  var quantizableActivations: [Graph.ValueID] {
    codedActivations.filter { reasons[groups.group(of: $0)] == nil }
  }

  /// A product with constant weights and an input, whose bias can be corrected.
  struct Product {
    let index: Int
    let node: Graph.Node
    let weights: Graph.ValueID
    let input: Graph.ValueID
  }

  var products: [Product] {
    quantizableNodes.compactMap { index, node in
      guard let weights = constantWeights(of: node),
        let input = node.input(ProductOperand.input)
      else { return nil }
      return Product(index: index, node: node, weights: weights, input: input)
    }
  }
}

extension Graph {
  /// Indices of the products that read channels with units of their own, which no samples show:
  /// nothing tells their means, which may be much larger than their deviations. A window in front of a
  /// spectrum has small factors as well, but its channels are all of one signal.
  var productsOfUnknownMeans: Set<Int> {
    let unlike = productsOfUnlikeColumns
    guard !unlike.isEmpty else { return [] }
    let front = SpectralFrontEnd(self).values
    return unlike.filter { !nodes[$0].outputs.contains(where: front.contains) }
  }
}

import QMGraph
import QMOperations
import QMTensor

/// A group of activations that integer operations read: the unit for which a type is chosen.
struct ActivationPoint {
  /// The group; see ``ParameterGroups``.
  let group: Int
  /// The values that are rounded if the type has fixed parameters.
  fileprivate(set) var values: [Graph.ValueID] = []
  /// The values that products with constant weights and recurrent layers read, which can quantize
  /// them in the run.
  fileprivate(set) var dynamicValues: [Graph.ValueID] = []
  /// Parameters of the types that have any.
  fileprivate(set) var parameters: [ActivationType: QuantizationParameters] = [:]
  /// The types that all readers accept, the cheapest first; never empty.
  fileprivate(set) var types: [ActivationType] = []
  /// Whether only linear steps lie between a value and a steep function, such as a logarithm.
  fileprivate(set) var isBeforeSteepFunction = false
}

/// All points of a network, and what each choice of their types costs.
struct ActivationPoints {
  private(set) var points: [ActivationPoint] = []
  /// The activations that are decided without a search.
  private let decided: [Graph.ValueID: Plan.Activation]
  private var readers: [Reader] = []
  /// Indices of the readers of each point.
  private var readersOfPoint: [[Int]] = []
  private let prices: Recipe.Prices

  /// The multiply-adds of a node, or the elements of one operand that it reads.
  fileprivate struct Reader {
    /// Number of multiply-adds or elements.
    let work: Double
    /// Points of the activations that it multiplies or reads.
    let points: [Int]
    /// The types that it reads as they are; it reads activations of other types in float32.
    let types: Set<ActivationType>
  }

  /// - Parameters:
  ///   - activations: values that may have fixed parameters.
  ///   - ranges: their parameters.
  ///   - shapes: shapes of values in the run of one sample.
  init(
    of activations: [Graph.ValueID], _ ranges: ActivationRanges, _ state: ConversionState,
    shapes: [Graph.ValueID: [Int]]
  ) {
    prices = state.recipe.prices
    var decided: [Graph.ValueID: Plan.Activation] = [:]
    // A product whose input no sample computes quantizes it in the run.
    for product in state.products where ranges.unseen.contains(product.input) {
      decided[product.input] = .dynamic
    }
    self.decided = decided
    var places: [Int: Int] = [:]
    func place(of group: Int) -> Int {
      if let place = places[group] { return place }
      points.append(ActivationPoint(group: group))
      places[group] = points.count - 1
      return points.count - 1
    }
    for value in activations where !ranges.unseen.contains(value) {
      let group = state.groups.group(of: value)
      guard let int8 = ranges.int8[group] else { continue }
      let place = place(of: group)
      points[place].values.append(value)
      points[place].parameters = [.int8: int8]
    }
    for value in state.readByRecurrentLayers {
      points[place(of: state.groups.group(of: value))].dynamicValues.append(value)
    }
    for product in state.products
    where decided[product.input] == nil && state.readsCodes(product) {
      let group = state.groups.group(of: product.input)
      guard places[group] != nil || state.dynamic.contains(product.input) else { continue }
      let place = place(of: group)
      guard !points[place].dynamicValues.contains(product.input) else { continue }
      points[place].dynamicValues.append(product.input)
    }
    let steep = state.steepFunctions.inputs
    let withInt16 = state.groupsThatTakeInt16
    for place in points.indices {
      let group = points[place].group
      if withInt16.contains(group), let int16 = ranges.int16[group] {
        points[place].parameters[.int16] = int16
      }
      points[place].types = ActivationType.allCases.filter { type in
        switch type {
        case .int8, .int16: points[place].parameters[type] != nil
        case .dynamic: !points[place].dynamicValues.isEmpty
        case .float: true
        }
      }
      .sorted { prices[$0] < prices[$1] }
      points[place].isBeforeSteepFunction =
        (points[place].values + points[place].dynamicValues).contains(where: steep.contains)
    }
    readersOfPoint = [[Int]](repeating: [], count: points.count)
    for (index, node) in state.quantizableNodes {
      for read in state.reads(of: node, at: index, shapes) {
        let operands = Set(read.values.compactMap { places[state.groups.group(of: $0)] })
        guard !operands.isEmpty, read.work > 0 else { continue }
        for point in operands { readersOfPoint[point].append(readers.count) }
        readers.append(Reader(work: read.work, points: operands.sorted(), types: read.types))
      }
    }
  }

  // MARK: Plans

  /// The cheapest type of each point.
  var cheapest: [ActivationType] { points.map { $0.types[0] } }

  /// A plan with these types.
  /// - Parameter plan: has everything but the activations.
  func plan(_ types: [ActivationType], from plan: Plan) -> Plan {
    var plan = plan
    plan.activations = decided
    for (point, type) in zip(points, types) { add(point, type, to: &plan) }
    return plan
  }

  /// A plan that rounds only one point.
  /// - Parameter plan: has everything but the activations.
  func plan(of point: Int, as type: ActivationType, from plan: Plan) -> Plan {
    var plan = plan
    plan.activations = [:]
    add(points[point], type, to: &plan)
    return plan
  }

  private func add(_ point: ActivationPoint, _ type: ActivationType, to plan: inout Plan) {
    if type != .float {
      for value in point.dynamicValues { plan.activations[value] = .dynamic }
    }
    if let parameters = point.parameters[type] {
      for value in point.values { plan.activations[value] = .fixed(parameters) }
    }
  }

  // MARK: Prices

  private func price(_ reader: Reader, _ types: [ActivationType]) -> Double {
    let dearest = reader.points.map { point in
      let type = types[point]
      return prices[reader.types.contains(type) ? type : .float]
    }
    return reader.work * (dearest.max() ?? 0)
  }

  /// The price of all points' readers relative to the cheapest types.
  func price(_ types: [ActivationType]) -> Double {
    let cheapest = cheapest
    let least = readers.reduce(0) { $0 + price($1, cheapest) }
    return least > 0 ? readers.reduce(0) { $0 + price($1, types) } / least : 1
  }

  /// How much more the readers of a point cost if its type changes.
  func extraPrice(
    of point: Int, as type: ActivationType, _ types: [ActivationType]
  ) -> Double {
    var changed = types
    changed[point] = type
    return readersOfPoint[point].reduce(0) {
      $0 + price(readers[$1], changed) - price(readers[$1], types)
    }
  }
}

extension ConversionState {
  /// Inputs of recurrent layers with quantized weights, without repetition.
  fileprivate var readByRecurrentLayers: [Graph.ValueID] {
    var seen: Set<Graph.ValueID> = []
    return quantizableNodes.compactMap { (_, node) in
      guard let input = readByRecurrentLayer(node), seen.insert(input).inserted else { return nil }
      return input
    }
  }

  private func readByRecurrentLayer(_ node: Graph.Node) -> Graph.ValueID? {
    guard let weights = recurrentWeights(of: node),
      weights.allSatisfy({ plan.weights[$0] != nil })
    else { return nil }
    return node.input(RecurrentOperand.input)
  }

  /// Whether a product multiplies codes of weights, so that it can quantize its input in the run.
  fileprivate func readsCodes(_ product: Product) -> Bool {
    guard !plan.floatNodes.contains(product.index), plan.weights[product.weights] != nil
    else { return false }
    switch product.node.operation {
    case .convolution, .matrixMultiply: return true
    default: return false
    }
  }

  /// What a node does with the activations that it reads as codes.
  fileprivate func reads(
    of node: Graph.Node, at index: Int, _ shapes: [Graph.ValueID: [Int]]
  ) -> [(work: Double, values: [Graph.ValueID], types: Set<ActivationType>)] {
    func elements(_ value: Graph.ValueID) -> Double { Double((shapes[value] ?? []).reduce(1, *)) }
    let multiplyAdds = node.operation.body.multiplyAdds(
      inputs: node.inputs.map { $0.flatMap { shapes[$0] ?? graph[$0].constant?.shape } },
      output: shapes[node.outputs[0]] ?? [])
    let work = Double(multiplyAdds ?? 0)
    if let input = readByRecurrentLayer(node) {
      // It rounds its states like its input, to int8 codes.
      return [(work + elements(input), [input], [.int8, .dynamic])]
    }
    let operands = integerOperands(of: node).filter { graph[$0].constant == nil }
    var types: Set<ActivationType> = [.int8, .int16]
    var reads: [(work: Double, values: [Graph.ValueID], types: Set<ActivationType>)] = []
    if multiplyAdds != nil {
      let factors = [ProductOperand.input, ProductOperand.weights].compactMap(node.input)
        .filter(operands.contains)
      if let weights = constantWeights(of: node), let input = node.input(ProductOperand.input),
        readsCodes(Product(index: index, node: node, weights: weights, input: input))
      {
        types.insert(.dynamic)
        reads.append((work, factors, types))
      } else {
        reads.append((work, factors, [.int8]))
      }
    }
    return reads + operands.map { (elements($0), [$0], types) }
  }

  /// The groups whose readers all accept int16. A product with constant weights must be proven not
  /// to overflow its 32-bit accumulators.
  fileprivate var groupsThatTakeInt16: Set<Int> {
    var wide = Set(codedActivations.map { groups.group(of: $0) })
    for value in readByRecurrentLayers { wide.remove(groups.group(of: value)) }
    for (_, node) in quantizableNodes {
      if let input = node.input(ProductOperand.input), constantWeights(of: node) != nil,
        !takesInt16(node)
      {
        wide.remove(groups.group(of: input))
      }
      if case .resize = node.operation, let input = node.input(0) {
        wide.remove(groups.group(of: input))
      }
    }
    return wide
  }

  private func takesInt16(_ node: Graph.Node) -> Bool {
    guard let weights = constantWeights(of: node),
      let codes = (graph[weights].codes ?? plan.weights[weights])?.codes
    else { return false }
    if case .convolution(let convolution) = node.operation {
      guard convolution.groups == 1 || (codes.shape.last ?? 1) > 1 else { return false }
    }
    return node.operation.body.accumulators.products.allSatisfy {
      AccumulatorBound.keepsHalf(codes, $0.layout, by: .int16)
    }
  }
}

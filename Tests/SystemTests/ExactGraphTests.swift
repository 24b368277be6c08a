import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import Testing

/// A plan is made for the graph after the fusions, and can also be applied to the exact graph.
@Suite struct ExactGraphTests {
  /// The same network before and after the fusions.
  private struct Pair {
    let exact: Graph
    let fused: Rewritten

    init(_ fixture: FixtureModel) throws {
      exact = try DefaultPasses.runExact(on: fixture.graph())
      fused = try DefaultPasses.fused(exact)
    }
  }

  @Test(arguments: FixtureModel.all) func bothListsAreAllPasses(fixture: FixtureModel) throws {
    let pair = try Pair(fixture)
    let whole = try DefaultPasses.run(on: fixture.graph()).flattened().program
    #expect(pair.fused.graph.flattened().program == whole)
  }

  /// Every value that both graphs compute has the same elements, up to float rounding and the order
  /// of axes.
  @Test(arguments: FixtureModel.all) func valuesCorrespond(fixture: FixtureModel) throws {
    let pair = try Pair(fixture)
    let inputs = try fixture.noisyInputs()
    let exact = try Run(pair.exact, inputs)
    let fused = try Run(pair.fused.graph, inputs)
    var compared = 0
    for value in pair.exact.nodes.flatMap(\.outputs) {
      guard let new = pair.fused.correspondence.value(for: value), let found = fused[new],
        let own = exact[value]
      else { continue }
      let expected = try transposed(own, pair.fused.correspondence.permutation(for: value))
      #expect(expected.shape == found.shape)
      let pairs = zip(expected.elements(as: Float.self), found.elements(as: Float.self))
      let largest = expected.elements(as: Float.self).reduce(0) { max($0, abs($1)) }
      #expect(
        pairs.allSatisfy { abs($0 - $1) <= 1e-4 * max(1, largest) },
        "\(pair.exact[value].name)")
      compared += 1
    }
    #expect(compared >= pair.fused.graph.nodes.count / 2)
  }

  /// Law 2 for the exact graph: if each node reads the values of the simulation, its own value
  /// differs from the simulation's by at most one step, in at most 0.1 % of the elements.
  @Test(arguments: FixtureModel.all, [2, 4, 8]) func aPlanAppliesToTheExactGraph(
    fixture: FixtureModel, bits: Int
  ) throws {
    let pair = try Pair(fixture)
    let conversion = try fixture.conversion(bits: bits)
    #expect(conversion.graph.identity == pair.fused.graph.identity)
    let inputs = try fixture.noisyInputs()
    let simulation = try Run(conversion.simulation, inputs)
    let flattened = try pair.exact.inserting(conversion.plan, of: pair.fused).flattened()
    let program = flattened.program
    let numbers = Dictionary(
      program.values.indices.map { (program.values[$0].name, $0) },
      uniquingKeysWith: { first, _ in first })
    /// Values of the simulation, by number in the exact graph's program.
    var expected: [Int: (numbers: [Float], scale: Float)] = [:]
    for value in pair.exact.inputs + pair.exact.nodes.flatMap(\.outputs) {
      guard let new = pair.fused.correspondence.value(for: value),
        case .fixed(let parameters) = conversion.plan.activations[new],
        let tensor = simulation[conversion.graph[new].name + ".rounded"],
        let number = numbers[pair.exact[value].name + ".rounded"]
      else { continue }
      let permutation = pair.fused.correspondence.permutation(for: value)
      let own = try transposed(tensor, permutation.map(inverse))
      expected[number] = (own.elements(as: Float.self), parameters.scale)
    }
    #expect(expected.count >= 2)
    var compared = 0
    let session = Session(try Model(program))
    _ = try session.run(
      inputs,
      intercepting: Intercept(of: Set(expected.keys)) { (number, view) in
        guard let (numbers, scale) = expected[number] else { return }
        let found = view.elements(as: Float.self)
        let steps = zip(found, numbers).map { (($0 - $1) / scale).rounded() }
        #expect(steps.allSatisfy { abs($0) <= 1 }, "\(program.values[number].name)")
        let unequal = steps.filter { $0 != 0 }.count
        #expect(
          unequal <= max(1, steps.count / 1000),
          "\(program.values[number].name): \(unequal) of \(steps.count)")
        compared += 1
        // The readers of this value read the simulation's numbers.
        for index in found.indices { found[index] = numbers[index] }
      })
    #expect(compared == expected.count)
  }

  /// Every product of the exact graph reads rounded weights.
  @Test(arguments: FixtureModel.all) func everyProductIsRounded(fixture: FixtureModel) throws {
    let pair = try Pair(fixture)
    let conversion = try fixture.conversion(bits: 4)
    let exact = try pair.exact.inserting(conversion.plan, of: pair.fused)
    let products = exact.nodes.filter {
      ["Convolution", "MatrixMultiply"].contains($0.operation.name)
    }
    #expect(products.count >= 2)
    for product in products {
      let weights = try #require(product.input(1))
      #expect(exact[weights].name.hasSuffix(".dequantized"), "\(product.name)")
    }
  }
}

private func transposed(_ tensor: Tensor, _ permutation: [Int]?) throws -> Tensor {
  guard let permutation else { return tensor }
  return try Operation.transpose(Transpose(permutation: permutation)).evaluate([tensor])[0]
}

private func inverse(_ permutation: [Int]) -> [Int] {
  permutation.indices.map { permutation.firstIndex(of: $0)! }
}

/// The values of one run of a graph.
private struct Run {
  private var byValue: [Graph.ValueID: Tensor] = [:]
  private var byName: [String: Tensor] = [:]

  init(_ graph: Graph, _ inputs: [String: Tensor]) throws {
    let flattened = graph.flattened()
    var seen: [Int: Tensor] = [:]
    _ = try Session(Model(flattened.program)).run(
      inputs,
      observing: { (value, view) throws(QMError) in
        guard view.elementType == .float32 else { return }
        seen[value] = try Tensor(view.elementType, view.shape, buffer: .copying(view.bytes))
      })
    for (value, number) in flattened.numbers {
      byValue[value] = seen[number]
      byName[graph[value].name] = seen[number]
    }
  }

  subscript(value: Graph.ValueID) -> Tensor? { byValue[value] }
  subscript(name: String) -> Tensor? { byName[name] }
}

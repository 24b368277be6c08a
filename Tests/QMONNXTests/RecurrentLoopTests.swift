import QMGraph
import QMONNX
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Loops that spell out recurrent layers.
@Suite struct RecurrentLoopTests {
  /// What makes a loop no recurrent layer.
  enum Fault: CaseIterable {
    case otherComplement, otherFunction, otherStack, fewerSteps, earlyEnd, oneStep, scaledState
    case otherStart, repeatedColumn, repeatedRow
  }

  /// A loop over a sequence `x` `[T, B, 2]` that computes a layer of three units, spelled at random.
  private struct Layer {
    var generator: SeededGenerator
    let cell: Recurrent.Cell
    let fault: Fault?
    private var body = ONNXNetwork(opset: 18)
    private let gateFunction: String
    private let stateFunction: String
    /// Whether an input `mask` says which steps change the states.
    private let isMasked: Bool

    init(_ cell: Recurrent.Cell, seed: UInt64, fault: Fault? = nil, isMasked: Bool = false) {
      generator = SeededGenerator(seed: seed)
      self.cell = cell
      self.fault = fault
      self.isMasked = isMasked
      gateFunction = ["Sigmoid", "HardSigmoid", "Clip"].randomElement(using: &generator)!
      stateFunction = ["Tanh", "Relu", "Softsign", ""].randomElement(using: &generator)!
    }

    // MARK: The body

    private mutating func constant(_ shape: [Int]) throws -> String {
      constant(try generator.tensor(shape))
    }

    private mutating func constant(_ tensor: Tensor) -> String {
      body.constants.append(("c\(body.constants.count)", tensor))
      return body.constants.last!.name
    }

    private mutating func number(_ number: Float) throws -> String {
      constant(try Tensor([], [number]))
    }

    private mutating func node(
      _ operation: String, _ inputs: [String],
      _ attributes: [(name: String, value: ONNXNetwork.Attribute)] = [], count: Int = 1
    ) -> [String] {
      let isCommutative = operation == "Add" || operation == "Mul"
      let outputs = (0..<count).map { "n\(body.nodes.count).\($0)" }
      body.nodes.append(
        .init(
          operation, isCommutative ? inputs.shuffled(using: &generator) : inputs, outputs,
          attributes))
      return outputs
    }

    private mutating func sum(_ terms: [String]) -> String {
      var left = terms.shuffled(using: &generator)
      while left.count > 1 {
        left.append(node("Add", [left.removeFirst(), left.removeFirst()])[0])
      }
      return left[0]
    }

    private mutating func function(_ name: String, _ value: String) throws -> String {
      switch name {
      case "": return value
      case "Clip":
        // Keras's: clip(x + 3, 0, 6) / 6.
        let shifted = node("Add", [value, try number(3)])[0]
        let clipped = node("Clip", [shifted, try number(0), try number(6)])[0]
        return node("Mul", [clipped, try number(1 / 6)])[0]
      default: return node(name, [value])[0]
      }
    }

    /// The products of a value for some gates, one product or one for each gate.
    private mutating func products(_ value: String, depth: Int, gates: Int) throws -> [String] {
      guard Bool.random(using: &generator) else {
        var products: [String] = []
        for _ in 0..<gates {
          products.append(node("MatMul", [value, try constant([depth, 3])])[0])
        }
        return products
      }
      var product = node("MatMul", [value, try constant([depth, 3 * gates])])[0]
      if Bool.random(using: &generator) {
        product = node("Add", [product, try constant([3 * gates])])[0]
      }
      var parts: [String] = []
      if Bool.random(using: &generator) {
        parts = node(
          "Split", [product], [("axis", .integer(1)), ("num_outputs", .integer(gates))],
          count: gates)
      } else {
        for gate in 0..<gates {
          let bounds = try [3 * gate, 3 * gate + 3, 1].map {
            constant(try Tensor([1], [Int64($0)]))
          }
          parts.append(node("Slice", [product] + bounds)[0])
        }
      }
      return parts.shuffled(using: &generator)
    }

    private mutating func biased(_ terms: [String]) throws -> String {
      Bool.random(using: &generator) ? sum(terms + [try constant([1, 3])]) : sum(terms)
    }

    /// Gates that the input changes by one number for all their columns.
    private mutating func gatesOfOneColumn(_ names: [String]) throws -> [String] {
      let product = node("MatMul", ["step", try constant([2, 1])])[0]
      let biased = node("Add", [product, try constant([1])])[0]
      let state = node("MatMul", ["h", try constant([3, 3 * names.count])])[0]
      let parts = node(
        "Split", [node("Add", [biased, state])[0]],
        [("axis", .integer(1)), ("num_outputs", .integer(names.count))], count: names.count)
      return try zip(names, parts).map { try function($0, $1) }
    }

    private mutating func gates(_ count: Int, _ names: [String]) throws -> [String] {
      guard fault != .repeatedColumn else {
        return try gatesOfOneColumn(Array(names.prefix(count)))
      }
      let (a, b) = (
        try products("step", depth: 2, gates: count), try products("h", depth: 3, gates: count)
      )
      var gates: [String] = []
      for index in 0..<count {
        gates.append(try function(names[index], try biased([a[index], b[index]])))
      }
      return gates
    }

    /// Adds the nodes that compute the states after the step.
    private mutating func addStep() throws -> [String] {
      let other = fault == .otherFunction ? "Tanh" : gateFunction
      switch cell {
      case .simple: return try gates(1, [stateFunction])
      case .lstm, .lstmCoupled:
        let gates = try gates(4, [gateFunction, other, gateFunction, stateFunction])
        let kept = node("Mul", [gates[2], "c"])[0]
        let c = node("Add", [kept, node("Mul", [gates[0], gates[3]])[0]])[0]
        return [node("Mul", [gates[1], try function(stateFunction, c)])[0], c]
      case .gru, .gruResetAfter:
        let gates = try gates(2, [gateFunction, other])
        let a = try products("step", depth: 2, gates: 1)[0]
        let candidate: String
        if cell == .gru {
          let reset = node("Mul", [gates[1], "h"])[0]
          candidate = try biased([a, products(reset, depth: 3, gates: 1)[0]])
        } else {
          let b = try biased(products("h", depth: 3, gates: 1))
          candidate = try biased([a, node("Mul", [gates[1], b])[0]])
        }
        let n = try function(stateFunction, candidate)
        if fault == .otherComplement || Bool.random(using: &generator) {
          let one = try number(1)
          let complement = node("Sub", [one, gates[fault == .otherComplement ? 1 : 0]])[0]
          return [
            node(
              "Add", [node("Mul", [gates[0], "h"])[0], node("Mul", [complement, n])[0]])[0]
          ]
        }
        return [node("Add", [n, node("Mul", [gates[0], node("Sub", ["h", n])[0]])[0]])[0]]
      }
    }

    /// A state as a masked step leaves it.
    private mutating func masked(_ new: String, _ old: String) -> String {
      guard Bool.random(using: &generator) else { return node("Where", ["now", new, old])[0] }
      let isNew = node("Cast", ["now"], [("to", .integer(1))])[0]
      let isOld = node("Cast", [node("Not", ["now"])[0]], [("to", .integer(1))])[0]
      return node("Add", [node("Mul", [isNew, new])[0], node("Mul", [isOld, old])[0]])[0]
    }

    // MARK: The network

    /// - Parameter countIsInput: whether only the run knows that the loop takes all steps.
    mutating func network(countIsInput: Bool) throws -> ONNXNetwork {
      let states = cell.hasCellState ? ["h", "c"] : ["h"]
      let isReversed = !isMasked && Bool.random(using: &generator)
      // What Keras returns of a masked layer.
      let hasCopy = isMasked && Bool.random(using: &generator)
      let hasCounter = Bool.random(using: &generator) || fault == .otherStart
      body.inputs = [("i", ValueType(.int64, [])), ("go", ValueType(.bool, []))]
      for name in states {
        body.inputs.append((name, ValueType(.float32, [.free("B"), 3])))
      }
      if hasCopy { body.inputs.append(("copy", ValueType(.float32, [.free("B"), 3]))) }
      var place = "i"
      if hasCounter {
        body.inputs.append(("counter", ValueType(.int32, [])))
        place = "counter"
      }
      body.inputs.append(("weight", ValueType(.float32, [3])))
      if fault == .oneStep { place = constant(try Tensor([], [Int64(0)])) }
      if isReversed, fault != .oneStep {
        let index = node("Cast", [place], [("to", .integer(7))])[0]
        let last = node("Sub", ["steps", constant(try Tensor([], [Int64(1)]))])[0]
        place = node("Sub", [last, index])[0]
      }
      body.nodes.append(.init("Gather", ["x", place], ["step"]))
      if isMasked { body.nodes.append(.init("Gather", ["mask", place], ["now"])) }
      var results = try addStep()
      if isMasked {
        let new = results
        for (index, name) in states.enumerated() { results[index] = masked(new[index], name) }
        if hasCopy { results.append(masked(new[0], "copy")) }
      }
      let h = hasCopy ? results[states.count] : results[0]
      if fault == .scaledState { results[0] = node("Mul", [h, try number(0.5)])[0] }
      let bound = fault == .earlyEnd ? constant(try Tensor([], [Int64(1)])) : "steps"
      let condition = node("Less", ["i", bound])[0]
      if hasCounter {
        results.append(node("Add", ["counter", constant(try Tensor([], [Int32(1)]))])[0])
      }
      let weight = node("Identity", ["weight"])[0]
      // A bias of zero through a value that the iterations only hand on.
      let stacked = fault == .otherStack ? node("Neg", [h])[0] : h
      body.outputs = [condition] + results + [weight, stacked]

      // One row of states, which the first iteration repeats for each item of the batch.
      let extents = fault == .repeatedRow ? "row" : "extents"
      var network = ONNXNetwork(opset: 18)
      network.inputs = [("x", ValueType(.float32, [.free("T"), .free("B"), 2]))]
      if isMasked {
        network.inputs.append(("mask", ValueType(.bool, [.free("T"), .free("B"), 1])))
      }
      network.nodes = [
        .init("Shape", ["x"], ["shape"]), .init("Gather", ["shape", "zero"], ["steps"]),
        .init("Gather", ["shape", "one"], ["batch"]),
        .init("Unsqueeze", ["batch", "axis"], ["rows"]),
        .init("Concat", ["rows", "three"], ["extents"], [("axis", .integer(0))]),
        .init("Expand", ["nothing", extents], ["h0"]),
        .init("Expand", ["something", extents], ["c0"]),
        .init("Sub", ["steps", "one"], ["fewer"]),
      ]
      network.constants = [
        ("zero", try Tensor([], [Int64(0)])), ("one", try Tensor([], [Int64(1)])),
        ("row", try Tensor([2], [Int64(1), 3])),
        ("axis", try Tensor([1], [Int64(0)])), ("three", try Tensor([1], [Int64(3)])),
        ("nothing", try Tensor([], [Float(0)])), ("something", try Tensor([], [Float(0.25)])),
        ("first", try Tensor([], [Int32(fault == .otherStart ? 1 : 0)])),
        ("w", try Tensor([3], [Float(1), 2, 3])),
      ]
      var count = fault == .fewerSteps ? "fewer" : "steps"
      if countIsInput {
        network.inputs.append(("count", ValueType(.int64, [])))
        count = "count"
      }
      let outputs =
        ["last"] + (states.count > 1 ? ["cell"] : []) + (hasCopy ? ["same"] : [])
        + (hasCounter ? ["end"] : [])
      network.nodes.append(
        .init(
          "Loop",
          [count, ""] + ["h0", "c0"].prefix(states.count) + (hasCopy ? ["h0"] : [])
            + (hasCounter ? ["first"] : []) + ["w"],
          outputs + ["weights", "sequence"], [("body", .network(body))]))
      network.outputs = outputs + ["weights", "sequence"]
      return network
    }
  }

  private static let cells: [Recurrent.Cell] = [.simple, .gru, .gruResetAfter, .lstm]

  private func isRecurrent(_ graph: Graph) -> Bool {
    let names = graph.nodes.map(\.operation.name)
    #expect(names.filter { $0 == Recurrent.name || $0 == Loop.name }.count == 1, "\(names)")
    return names.contains(Recurrent.name)
  }

  /// The layer computes what the loop computes, however the loop is spelled.
  @Test(arguments: cells, 0..<12 as Range<UInt64>)
  func computesWhatTheLoopComputes(cell: Recurrent.Cell, seed: UInt64) throws {
    try compare(Layer(cell, seed: seed))
  }

  /// Also where some steps leave the states as they are.
  @Test(arguments: cells, 0..<8 as Range<UInt64>)
  func computesWhatTheMaskedLoopComputes(cell: Recurrent.Cell, seed: UInt64) throws {
    try compare(Layer(cell, seed: seed, isMasked: true), isMasked: true)
  }

  private func compare(_ network: Layer, isMasked: Bool = false) throws {
    var (one, other) = (network, network)
    let layer = try ONNXReader.read(bytes: one.network(countIsInput: false).encoded())
    let loop = try ONNXReader.read(bytes: other.network(countIsInput: true).encoded())
    #expect(isRecurrent(layer))
    #expect(!isRecurrent(loop))
    for (steps, batch) in [(5, 2), (1, 1), (0, 3)] {
      let x = try one.generator.tensor([steps, batch, 2], in: -2...2)
      var inputs = ["x": x]
      if isMasked {
        let flags = (0..<steps * batch).map { _ in Bool.random(using: &one.generator) }
        inputs["mask"] = try Tensor([steps, batch, 1], flags)
      }
      let results = try Model(layer.flattened().program).run(inputs)
      inputs["count"] = try Tensor([], [Int64(steps)])
      let expected = try Model(loop.flattened().program).run(inputs)
      #expect(Set(results.keys) == Set(expected.keys))
      for (name, value) in expected {
        let result = try #require(results[name])
        #expect(result.type == value.type, "\(name)")
        guard value.elementType == .float32 else {
          #expect(result.elements(as: Int32.self) == value.elements(as: Int32.self))
          continue
        }
        let pairs = zip(result.elements(as: Float.self), value.elements(as: Float.self))
        #expect(pairs.allSatisfy { abs($0 - $1) <= 5e-6 * max(1, abs($1)) }, "\(name)")
      }
    }
  }

  /// What is not the layer wholly stays a loop.
  @Test(arguments: Fault.allCases, 0..<4 as Range<UInt64>)
  func leavesOtherLoops(fault: Fault, seed: UInt64) throws {
    var found = 0
    for cell in Self.cells {
      switch fault {
      case .otherComplement where cell != .gru && cell != .gruResetAfter: continue
      case .otherFunction where cell == .simple: continue
      default: break
      }
      var layer = Layer(cell, seed: seed, fault: fault)
      let network = try layer.network(countIsInput: false)
      let hasCounter = network.outputs.contains("end")
      if fault == .otherStart && !hasCounter { continue }
      found += 1
      #expect(!isRecurrent(try ONNXReader.read(bytes: network.encoded())), "\(cell)")
    }
    #expect(found > 0)
  }

  /// Keras's layers, as tf2onnx writes them.
  @Test(
    arguments: [
      "keras_gru", "keras_gru_reset_before", "keras_gru_functions", "keras_rnn_backwards",
      "keras_lstm_functions", "keras_gru_masked",
    ])
  func recognizesKeras(name: String) throws {
    let path = Fixtures.folder.appending(path: "\(name)/model.onnx").path
    #expect(isRecurrent(try ONNXReader.read(path: path)))
  }

  @Test(arguments: ["keras_rnn_ends_early", "keras_conv_lstm"])
  func readsOtherLoopsOfKerasAsTheirNodes(name: String) throws {
    let path = Fixtures.folder.appending(path: "\(name)/model.onnx").path
    let names = try ONNXReader.read(path: path).nodes.map(\.operation.name)
    #expect(!names.contains(Recurrent.name))
  }
}

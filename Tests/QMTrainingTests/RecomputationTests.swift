import NetworkSweep
import QMGraph
import QMONNX
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Values that are computed again in the backward run: the same bits in less memory.
@Suite struct RecomputationTests {
  private static let depth = 16

  private static func convolution(_ channels: Int) -> Operation {
    .convolution(
      Convolution(
        order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [1, 1]), groups: 1))
  }

  /// Convolutions with functions between them; every third adds what the third before it gave.
  private func convolutional(_ generator: inout SeededGenerator) throws -> GradientCase {
    var test = GradientCase()
    var value = try test.input(try generator.tensor([2, 4, 12, 12]))
    var shortcut = value
    for layer in 0..<Self.depth {
      value = try test.append(
        Self.convolution(4),
        [value, try test.parameter(try generator.tensor([4, 4, 3, 3], in: -0.3...0.3))])[0]
      value = try test.append(.unary(Unary(.silu)), [value])[0]
      if layer % 3 == 2 {
        value = try test.append(.binary(Binary(.add)), [value, shortcut])[0]
        shortcut = value
      }
    }
    try test.output(value)
    return test
  }

  private func perceptron(_ generator: inout SeededGenerator) throws -> GradientCase {
    var test = GradientCase()
    var value = try test.input(try generator.tensor([64, 24]))
    for _ in 0..<Self.depth {
      value = try test.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)),
        [value, try test.parameter(try generator.tensor([24, 24], in: -0.4...0.4))])[0]
      value = try test.append(.unary(Unary(.tanh)), [value])[0]
    }
    try test.output(value)
    return test
  }

  /// Layers that run forward over the sequence of the layer before; the last states are outputs too.
  private func recurrent(_ generator: inout SeededGenerator) throws -> GradientCase {
    var test = GradientCase()
    var value = try test.input(try generator.tensor([12, 3, 6]))
    for layer in 0..<Self.depth {
      let cell: Recurrent.Cell = layer % 2 == 0 ? .lstm : .gru
      let functions: [UnaryFunction] =
        layer % 2 == 0 ? [.sigmoid, .tanh, .tanh] : [.sigmoid, .tanh]
      let rows = cell.gateCount * 6
      let outputs = try test.append(
        .recurrent(Recurrent(cell, direction: .forward, functions: functions)),
        [
          value, try test.parameter(try generator.tensor([rows, 6], in: -0.5...0.5)),
          try test.parameter(try generator.tensor([rows, 6], in: -0.5...0.5)),
        ])
      value = try test.append(.reshape(Reshape()), [outputs[0], try test.constant([12, 3, 6])])[0]
      value = try test.append(.unary(Unary(.softsign)), [value])[0]
      if layer == 5 { try test.output(outputs[1]) }
    }
    try test.output(value)
    return test
  }

  /// Expects the same bits in two runs, and that the second adds to the first.
  /// - Returns: the bytes of both passes.
  @discardableResult
  private func compare(_ test: GradientCase, _ description: String) throws -> (Int, Int) {
    var generator = SeededGenerator(seed: 7)
    let (kept, again) = (
      try GradientRun(test), try GradientRun(test, options: .init(recomputes: true))
    )
    let gradients = try kept.outputGradients(&generator)
    for _ in 0..<2 {
      try kept.addGradients(gradients)
      try again.addGradients(gradients)
      #expect(
        kept.parameterGradients.map { $0.map(\.bitPattern) }
          == again.parameterGradients.map { $0.map(\.bitPattern) }, "\(description)")
    }
    return (kept.pass.byteCount, again.pass.byteCount)
  }

  @Test func deepNetworksNeedLessMemory() throws {
    var generator = SeededGenerator(seed: 3)
    for (name, test) in [
      "convolutional": try convolutional(&generator), "perceptron": try perceptron(&generator),
      "recurrent": try recurrent(&generator),
    ] {
      let (kept, again) = try compare(test, name)
      #expect(kept > 0 && Double(again) < 0.75 * Double(kept), "\(name): \(kept) → \(again) bytes")
    }
  }

  /// With n equal layers, the memory grows as √n, not as n.
  @Test func memoryGrowsWithTheRootOfTheDepth() throws {
    func byteCount(_ depth: Int) throws -> Int {
      var test = GradientCase()
      var value = try test.input(try Tensor(zeros: .float32, [1 << 12]))
      let slope = try test.parameter(try Tensor([1], [Float(0.5)]))
      for _ in 0..<depth {
        value = try test.append(.binary(Binary(.parametricRelu)), [value, slope])[0]
      }
      try test.output(value)
      return try GradientRun(test, options: .init(recomputes: true)).pass.byteCount
    }
    let (few, many) = (try byteCount(16), try byteCount(256))
    #expect(Double(many) < 5 * Double(few), "\(few) → \(many) bytes for 16 times the depth")
  }

  /// The rounding of activations is repeated with the same scales.
  @Test func roundedActivations() throws {
    let coded = try CodedNetwork(
      activations: QuantizationParameters(.int8, scale: 0.02, zeroPoint: 3))
    var generator = SeededGenerator(seed: 5)
    let input = try generator.tensor([40, 6])
    var found: [[[UInt32]]] = []
    for recomputes in [false, true] {
      let parameters = try coded.parameters()
      let value = coded.network.outputs[0].value
      let pass = try TrainingPass(
        coded.network, shapes: [input.shape], parameters: parameters.elements,
        gradients: parameters.gradients, lossValues: [value],
        options: .init(recomputes: recomputes),
        threads: ThreadPool(threadCount: 1))
      try pass.forward([input])
      pass.gradient(of: value)?.update(repeating: 1, count: 120)
      try pass.backward()
      parameters.takeActivationGradients(of: pass)
      parameters.finishGradients()
      found.append(parameters.slots.map { $0.elementGradients.map(\.bitPattern) })
    }
    #expect(found[0] == found[1])
  }

  @Test func randomNetworks() throws {
    var smaller = 0
    for seed: UInt64 in 0..<400 {
      let drawn = try NetworkTrial.network(seed: seed)
      // Some are drawn for which no input was found that they run on.
      guard (try? NetworkTrial.firstOutput(of: drawn)) != nil,
        let graph = try? ONNXReader.read(bytes: drawn.network.encoded())
      else { continue }
      let named = try drawn.inputs(sample: 0)
      let test = try GradientCase(graph, inputs: graph.inputs.compactMap { named[graph[$0].name] })
      guard (try? GradientRun(test)) != nil else { continue }
      let (kept, again) = try compare(test, "seed \(seed)\n\(drawn)")
      #expect(again <= kept)
      if again < kept { smaller += 1 }
    }
    #expect(smaller > 10, "\(smaller) networks")
  }
}

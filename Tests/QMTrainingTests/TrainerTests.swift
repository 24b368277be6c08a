import QMFormat
import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct TrainerTests {
  /// Both short tries of ppocr_cls at 1.5 bits ended worse than they began, and the smaller rate was taken:
  /// training stayed where it was.
  @Test func whereNoTryGainsTheLargerRateIsTaken() {
    func rate(_ losses: [Double]) -> Float? {
      Trainer.bestRate(
        of: zip([0.0015, 0.005] as [Float], losses).map { ($0, $1) }, lossBefore: 1.5)
    }
    #expect(rate([1.9, 14.8]) == 0.005)
    #expect(rate([1.2, 1.4]) == 0.0015)
    #expect(rate([1.4, 1.2]) == 0.005)
    #expect(rate([1.9, .infinity]) == 0.0015)
    #expect(rate([.infinity, .infinity]) == nil)
  }

  /// Numbers beyond all bounds would not have codes.
  @Test func numbersBeyondAllBoundsAreNotRestored() throws {
    let parameters = try CodedNetwork().parameters()
    let before = parameters.snapshot()
    #expect(parameters.areSane)
    for number: Float in [.nan, .infinity, -.infinity, 0x1p61] {
      for index in before.indices {
        var numbers = before
        numbers[index] = number
        #expect(throws: QMError.malformed("")) { try parameters.restore(numbers) }
      }
    }
    #expect(parameters.snapshot() == before)
  }

  /// Scales of a checkpoint may be 0 or negative.
  @Test func restoredScalesArePositive() throws {
    let parameters = try CodedNetwork().parameters()
    var numbers = parameters.snapshot()
    var first = 0
    for slot in parameters.slots {
      if slot.kind == .scales {
        for index in 0..<slot.count { numbers[first + index] = index % 2 == 0 ? 0 : -1 }
      }
      first += slot.count
    }
    try parameters.restore(numbers)
    for slot in parameters.slots where slot.kind == .scales {
      #expect(slot.elements.allSatisfy { $0 > 0 })
    }
    #expect(try parameters.histograms().allSatisfy { $0.bits.isFinite })
  }

  /// The scale of codes that a run finds may be all that the outputs need of them.
  @Test func aScaleThatIsFoundInTheRunHasAGradient() throws {
    var graph = Graph()
    let input = try graph.addInput(
      name: "input", ValueType(.float32, Shape([.fixed(2), .fixed(3)])))
    let weights = graph.addConstant(
      name: "weights", try Tensor([2, 3], [Float](repeating: 2, count: 6)))
    try graph.makeParameter(weights)
    let product = try graph.append(
      .binary(Binary(.multiply)), name: "product", [input, weights])[0]
    let codes = try graph.append(
      .dynamicQuantize(DynamicQuantize(axes: 1)), name: "codes", [product])
    try graph.addOutput(name: "scale", codes[1])
    let network = try TrainingNetwork(graph, training: .parameters)
    let parameters = try Parameters(
      of: network, threads: ThreadPool(threadCount: 1), largestCode: { _ in 0 })
    let value = network.outputs[0].value
    let pass = try TrainingPass(
      network, shapes: [[2, 3]], parameters: parameters.elements, gradients: parameters.gradients,
      lossValues: [value], threads: ThreadPool(threadCount: 1))
    try pass.forward([try Tensor([2, 3], [Float](repeating: 1, count: 6))])
    pass.gradient(of: value)?.update(repeating: 1, count: 4)
    try pass.backward()
    #expect(parameters.slots[0].elements == [Float](repeating: 2, count: 6))
  }
}

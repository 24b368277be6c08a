import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct CalibratorTests {
  private func numbers(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
  }

  /// The sum as it is defined: each number cut off to whole 2⁻³⁰, infinities to 2³², NaN to 0.
  private func means(_ elements: [Float], channelCount: Int) -> [Double] {
    var sums = [Int128](repeating: 0, count: channelCount)
    for (index, element) in elements.enumerated() where !element.isNaN {
      let bounded = min(max(Double(element), -0x1p32), 0x1p32)
      sums[index % channelCount] += Int128(Int64(bounded * 0x1p30))
    }
    let rows = elements.count / channelCount
    return sums.map { Double($0) * 0x1p-30 / Double(rows) }
  }

  @Test(arguments: [1, 2, 3, 16, 67, 5000]) func meansAreExact(channelCount: Int) {
    for rows in [1, 2, 5, 67] + (channelCount == 1 ? [4095, 4096, 4097, 20_000] : []) {
      for scale in [0x1p-40, 0x1p-28, 1, 0x1p17, 0x1.000002p17, 0x1p31, 0x1p40] as [Float] {
        var elements = numbers(rows * channelCount, seed: UInt64(rows)).map { $0 * scale }
        elements[0] = scale
        if scale == 0x1.000002p17 { elements[elements.count - 1] = .nan }
        if scale == 0x1p31 { elements[elements.count - 1] = -.infinity }
        var seen = ChannelMeans(channelCount: channelCount)
        elements.withUnsafeBufferPointer { seen.add($0) }
        #expect(
          seen.means == means(elements, channelCount: channelCount),
          "\(rows) rows of \(channelCount), up to \(scale)")
      }
    }
  }

  @Test(arguments: [
    QuantizationParameters(scale: 0.0131, zeroPoint: 3),
    QuantizationParameters(scale: 0.25, zeroPoint: -128),
    QuantizationParameters(scale: 1e-30, zeroPoint: 127),
    QuantizationParameters(.int16, scale: 2e-5, zeroPoint: 0),
    QuantizationParameters(.int16, scale: 1e-9, zeroPoint: -32768),
  ]) func meansOnAGridAreThoseOfTheNearestCodes(grid: QuantizationParameters) throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("rows"), .fixed(7)])))
    let y = try graph.append(.unary(Unary(.relu)), name: "y", [x], outputNames: ["y"])[0]
    try graph.addOutput(name: "y", y)
    // Halves of steps too, which go to the even code.
    let elements =
      numbers(7 * 700, seed: 5) + (0..<70).map { (Float($0) - 35) / 2 * grid.scale }
    let (lowest, highest): (Float, Float) =
      grid.elementType == .int16 ? (-32768, 32767) : (-128, 127)
    let rounded = elements.map { element -> Float in
      let code = (element * (1 / grid.scale)).rounded(.toNearestOrEven) + Float(grid.zeroPoint)
      return (min(max(code, lowest), highest) - Float(grid.zeroPoint)) * grid.scale
    }
    let samples = try TensorSamples([["x": Tensor([elements.count / 7, 7], elements)]])
    let runs = try ReferenceRuns(
      graph, over: samples, options: Model.Options(), memoryBudget: 1 << 20)
    let means = try runs.means(of: [x: grid])
    #expect(means[x]?.rounded.means == self.means(rounded, channelCount: 7))
    #expect(means[x]?.exact.means == self.means(elements, channelCount: 7))
    let place = OperandPlace(node: 0, operand: 0)
    let seen = try runs.statistics(of: [Observation(.range, of: place)]).values[place]
    #expect(seen?.minimum == elements.min())
    #expect(seen?.maximum == elements.max())
  }
}

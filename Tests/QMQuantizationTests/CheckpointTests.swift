import QMFormat
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct CheckpointTests {
  private func arrays() throws -> [(name: String, tensor: Tensor)] {
    var generator = SeededGenerator(seed: 5)
    return [
      ("layer/weight", try generator.tensor([24, 40])),
      ("kernel", try generator.tensor([3, 3, 8, 17])),
      ("layer/bias", try generator.tensor([24])),
      ("table", try generator.tensor([5000])),
      ("steps", try Tensor([3], [1, -2, 3] as [Int64])),
      ("scalar", try Tensor([], [0.25] as [Float])),
      ("empty", try Tensor(zeros: .float32, [0, 4])),
      ("zero", try Tensor(zeros: .float32, [8, 8])),
    ]
  }

  private func bits(_ bits: Int) throws -> Recipe.WeightWidth {
    .codes(Double(bits))
  }

  @Test(arguments: 2...8) func aFileGivesTheArraysBack(bits: Int) throws {
    let arrays = try arrays()
    let checkpoint = try Checkpoint(arrays, weights: self.bits(bits))
    let bytes = try checkpoint.program.encoded()
    let buffer = try bytes.withUnsafeBytes(Buffer.copying)
    let model = try Model(Program(decoding: buffer))
    #expect(model.outputs.map(\.name) == arrays.map(\.name))
    let found = try model.run([:])
    for (name, tensor) in arrays {
      let other = try #require(found[name])
      #expect(try firstDifference(#require(model.weights[name]), other) == nil)
      #expect(other.shape == tensor.shape)
      switch name {
      case "layer/weight", "kernel", "table":
        let comparison = try #require(checkpoint.comparisons[name])
        var whole = Comparison()
        try whole.add(reference: tensor, measured: other)
        #expect(abs(whole.signalToNoise - comparison.signalToNoise) < 1e-6)
        #expect(comparison.signalToNoise > 6 * Double(bits) - 7, "\(name) at \(bits) bits")
      default: #expect(firstDifference(other, tensor) == nil, "\(name)")
      }
    }
  }

  @Test func fewerBitsMakeSmallerFiles() throws {
    let sizes = try [8, 6, 4, 3, 2].map {
      try Checkpoint(arrays(), weights: bits($0)).program.encoded().count
    }
    #expect(sizes == sizes.sorted(by: >))
  }

  /// Channels of very different sizes along one axis: the scales lie along that axis.
  @Test(arguments: [0, 1]) func scalesFollowTheAxisOfTheChannels(axis: Int) throws {
    var generator = SeededGenerator(seed: 6)
    let noise = try generator.tensor([32, 32]).elements(as: Float.self)
    let elements = noise.enumerated().map { index, number in
      let channel = axis == 0 ? index / 32 : index % 32
      return number * Float(1 << (channel % 11))
    }
    let checkpoint = try Checkpoint(
      [("w", Tensor([32, 32], elements))], weights: bits(8))
    #expect(
      checkpoint.program.constants[0].quantization
        == .weights(bits: .eight, granularity: .perChannel(axis: axis)))
    #expect(try #require(checkpoint.comparisons["w"]).signalToNoise > 40)
  }

  /// Groups lie along the axis that the channels do not.
  @Test(arguments: [0, 1]) func groupsShareAScale(axis: Int) throws {
    var generator = SeededGenerator(seed: 7)
    let noise = try generator.tensor([40, 40]).elements(as: Float.self)
    // Every 8 elements along the axis have another size.
    let elements = noise.enumerated().map { index, number in
      let (group, channel) = axis == 1 ? (index % 40, index / 40) : (index / 40, index % 40)
      return number * (group / 8 % 2 == 0 ? 16 : 1) * (channel % 2 == 0 ? 1 : 64)
    }
    let arrays = [(name: "w", tensor: try Tensor([40, 40], elements))]
    let whole = try Checkpoint(arrays, weights: bits(4), grid: .fixed)
    let grouped = try Checkpoint(arrays, weights: bits(4), groupSize: 8)
    #expect(
      grouped.program.constants[0].quantization
        == .weights(bits: try #require(BitWidth(4)), granularity: .perGroup(axis: axis, size: 8)))
    #expect(grouped.program.constants[1].type.shape == Shape(axis == 1 ? [40, 5] : [5, 40]))
    let (before, after) = try (
      #require(whole.comparisons["w"]), #require(grouped.comparisons["w"])
    )
    #expect(after.signalToNoise > before.signalToNoise + 1)
    let buffer = try grouped.program.encoded().withUnsafeBytes(Buffer.copying)
    let found = try #require(try Model(Program(decoding: buffer)).weights["w"])
    var measured = Comparison()
    try measured.add(reference: arrays[0].tensor, measured: found)
    #expect(abs(measured.signalToNoise - after.signalToNoise) < 1e-6)
  }

  @Test func arraysHaveWidthsOfTheirOwn() throws {
    let rules = [
      Recipe.WidthRule(try NodePattern("layer"), try #require(BitWidth(6))),
      Recipe.WidthRule(try NodePattern("^kernel$"), .eight),
    ]
    let checkpoint = try Checkpoint(arrays(), weights: bits(3), grid: .fixed, widths: rules)
    let widths = checkpoint.program.constants.compactMap { constant -> Int? in
      if case .weights(let width, _) = constant.quantization { width.bits } else { nil }
    }
    // layer/weight, kernel, table, zero
    #expect(widths == [6, 8, 3, 3])
    let none = [Recipe.WidthRule(try NodePattern("nothing"), .eight)]
    let error = #expect(throws: QMError.usage("")) {
      try Checkpoint(arrays(), weights: bits(3), widths: none)
    }
    #expect(error?.message.contains("'kernel'") == true)
  }

  /// Arrays as those of a network: of unlike sizes, their numbers about normally distributed.
  private func normal() throws -> [(name: String, tensor: Tensor)] {
    var generator = SeededGenerator(seed: 9)
    return try [("a", [64, 300]), ("b", [300, 40]), ("c", [40, 30])].map { name, shape in
      let numbers = (0..<shape[0] * shape[1]).map { index in
        (0..<12).reduce(-6 as Float) { sum, _ in sum + Float.random(in: 0..<1, using: &generator) }
          * Float(1 + index % shape[1] % 3)
      }
      return (name, try Tensor(shape, numbers))
    }
  }

  /// Codes and scales of all arrays in the file.
  private func bitsPerWeight(_ checkpoint: Checkpoint) throws -> Double {
    let reports = try checkpoint.arrayReports(in: checkpoint.program.encoded())
    let count = reports.reduce(0) { $0 + $1.shape.reduce(1, *) }
    return Double(8 * reports.reduce(0) { $0 + $1.bytes }) / Double(count)
  }

  @Test(arguments: [1.5, 2.5, 3, 4.2, 6]) func allArraysTogetherTakeTheBits(bits: Double) throws {
    let checkpoint = try Checkpoint(normal(), weights: .codes(bits))
    let used = try bitsPerWeight(checkpoint)
    #expect(used <= bits + 0.02)
    #expect(used > 0.93 * bits)
    let found = try Model(checkpoint.program).weights
    for (name, tensor) in try normal() {
      var measured = Comparison()
      try measured.add(reference: tensor, measured: #require(found[name]))
      let stated = try #require(checkpoint.comparisons[name])
      #expect(abs(measured.signalToNoise - stated.signalToNoise) < 1e-6)
      #expect(stated.signalToNoise > 6 * bits - 5, "\(name)")
    }
  }

  @Test func freeStepsLoseLessThanFixedOnesInAsManyBytes() throws {
    func error(_ checkpoint: Checkpoint) -> Double {
      checkpoint.comparisons.values.reduce(0) {
        $0 + Comparison.ratio(ofDecibels: -$1.signalToNoise)
      }
    }
    let fixed = try Checkpoint(normal(), weights: bits(3), grid: .fixed)
    let free = try Checkpoint(normal(), weights: .codes(bitsPerWeight(fixed)))
    #expect(error(free) < 0.8 * error(fixed))
    #expect(throws: QMError.usage("")) {
      try Checkpoint(normal(), weights: .codes(2.5), grid: .fixed)
    }
    #expect(throws: QMError.usage("")) {
      try Checkpoint(normal(), weights: .codes(2.5), groupSize: 8)
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity]) func whatIsNoNumberIsRefused(_ bad: Float)
    throws
  {
    var elements = [Float](repeating: 1, count: 64)
    elements[19] = bad
    let arrays: [(name: String, tensor: Tensor)] = [
      ("good", try Tensor([2], [1, 2] as [Float])), ("w", try Tensor([8, 8], elements)),
    ]
    for width in [Recipe.WeightWidth.float32, .codes(8)] {
      let error = #expect(throws: QMError.self) { try Checkpoint(arrays, weights: width) }
      #expect(error?.code == .invalidInput)
      #expect(error?.description.contains("value 'w': element [2, 3]") ?? false)
    }
  }

  @Test func numbersBeyondFloat32AreRefused() throws {
    let array = try Tensor([2, 2], [1, 2, 3, 1e300] as [Double])
    #expect(throws: QMError.invalidInput("")) {
      try Checkpoint([("w", array)], weights: bits(8))
    }
  }

  @Test func arraysOfHalfPrecision() throws {
    let numbers = (0..<64).map { Float($0) / 7 - 3 }
    let checkpoint = try Checkpoint(
      [
        ("w", Tensor([8, 8], numbers)), ("large", Tensor([8, 8], numbers.map { $0 * 1e5 })),
        ("b", Tensor([8], [Float](repeating: 1 / 3, count: 8))),
      ], weights: .float16)
    let weights = try Model(checkpoint.program).weights
    #expect(weights["w"]?.elementType == .float16)
    let back = try #require(weights["w"]).converted(to: .float32).elements(as: Float.self)
    // Eleven significant bits.
    #expect(zip(back, numbers).allSatisfy { abs($0 - $1) <= abs($1) * 0x1p-11 })
    #expect(back != numbers)
    // Beyond the range of float16, and a vector.
    #expect(weights["large"]?.elementType == .float32)
    #expect(weights["b"]?.elementType == .float32)
    #expect(try #require(checkpoint.comparisons["w"]).signalToNoise > 60)
  }
}

import Foundation
import QMFormat
import QMNumPy
import QMOperations
import QMTensor
import Testing

/// When `qverify` finds samples worse than the file states: below median − 3.75 · MAD / √m − 1 dB,
/// with m the smaller of the number of samples at hand and of those behind the file's figures, and MAD
/// the larger of both deviations.
@Suite struct VerdictTests {
  /// Figures of the file, samples at hand, and whether their SQNR passes.
  struct Case: CustomTestStringConvertible, Sendable {
    var testDescription: String {
      "\(median) dB ± \(deviation) of \(stated), \(samples) at \(decibels) dB"
    }
    var median: Float = 40
    let deviation: Float
    let stated: Int
    let samples: Int
    let decibels: Double
    /// How far every other sample is from `decibels`, in turn above and below.
    var foundDeviation = 0.0
    let passes: Bool
  }

  static let cases = [
    // Samples alike: 1 dB, and not 3.
    Case(deviation: 0, stated: 8, samples: 8, decibels: 39.1, passes: true),
    Case(deviation: 0, stated: 8, samples: 8, decibels: 38.9, passes: false),
    // 3.75 · 4 / √4 + 1 = 8.5 dB.
    Case(deviation: 4, stated: 4, samples: 4, decibels: 31.6, passes: true),
    Case(deviation: 4, stated: 4, samples: 4, decibels: 31.4, passes: false),
    // 3.75 · 4 / √16 + 1 = 4.75 dB of many samples, 16 dB of one.
    Case(deviation: 4, stated: 16, samples: 16, decibels: 35.4, passes: true),
    Case(deviation: 4, stated: 16, samples: 16, decibels: 35.1, passes: false),
    Case(deviation: 4, stated: 16, samples: 1, decibels: 24.1, passes: true),
    Case(deviation: 4, stated: 16, samples: 1, decibels: 23.9, passes: false),
    // The file's median is of few samples too, and so is its deviation: 3.75 · 4 / √4 + 1 dB.
    Case(
      deviation: 1, stated: 4, samples: 16, decibels: 31.6, foundDeviation: 4, passes: true),
    Case(
      deviation: 1, stated: 4, samples: 16, decibels: 31.4, foundDeviation: 4, passes: false),
    Case(deviation: 4, stated: 1, samples: 16, decibels: 24.1, passes: true),
    // Above 60 dB only the rounding of float operations differs.
    Case(median: 140, deviation: 0, stated: 8, samples: 8, decibels: 61, passes: true),
  ]

  @Test(arguments: cases) func chanceExplainsSoMuch(_ given: Case) throws {
    let folder = try Folder()
    try write(
      [(.signalToNoise, given.median), (.deviation, given.deviation)], of: given.stated, to: folder)
    for sample in 0..<given.samples {
      let deviation = Double([0, 1, 0, -1][sample % 4]) * given.foundDeviation
      try add(sample, magnitude: 1, decibels: given.decibels + deviation, to: folder)
    }
    let result = try Tool.qverify(folder.path("y.qm"), folder.path("samples"))
    #expect(result.status == (given.passes ? 0 : 1), "\(result.errors)")
    if !given.passes { #expect(result.errors.contains("what chance explains of the 40.0 dB")) }
  }

  /// A sample whose signal is a hundredth of the usual one, with the usual noise: alone it says nothing
  /// about the file, among many it is one of many.
  @Test func aFewSamplesAreComparedWithTheUsualSignal() throws {
    for (samples, decibels, status) in [(1, 0, 0), (1, -5, 1), (16, 0, 1)] as [(Int, Double, Int32)]
    {
      let folder = try Folder()
      try write(
        [(.signalToNoise, 40), (.deviation, 0), (.magnitude, 1)], of: 16, to: folder)
      for sample in 0..<samples {
        try add(sample, magnitude: 0.01, decibels: decibels, to: folder)
      }
      let result = try Tool.qverify(folder.path("y.qm"), folder.path("samples"))
      #expect(result.status == status, "\(samples), \(decibels): \(result.errors)")
    }
  }

  /// Where the file's figures are of single items, those of a batch are judged one by one: one broken
  /// item of nine is most of the noise of them all. Where the figures are of batches, or the first axis
  /// counts no items, the sample is judged as a whole.
  @Test func theItemsOfABatchAreSamples() throws {
    let batch = ValueType(.float32, Shape([.free("n"), .fixed(4)]))
    for (type, sample, decibels, status, judged) in [
      (batch, "1x4", [40, 40, 40, 40, 40, 40, 40, 40, 0], 0, 9),
      (batch, "1x4", [30, 30, 30, 30, 30, 30, 30, 30, 30], 1, 9),
      (batch, "9x4", [40, 40, 40, 40, 40, 40, 40, 40, 0], 1, 1),
      (batch, nil, [40, 40, 40, 40, 40, 40, 40, 40, 0], 1, 1),
      (ValueType(.float32, [9, 4]), "9x4", [40, 40, 40, 40, 40, 40, 40, 40, 0], 1, 1),
    ] as [(ValueType, String?, [Double], Int32, Int)] {
      let folder = try Folder()
      try write([(.signalToNoise, 40), (.deviation, 0)], of: 8, type, sample: sample, to: folder)
      let noise = decibels.flatMap { [Float](repeating: Float(pow(10, -$0 / 20)), count: 4) }
      try NPY.write(Tensor([9, 4], noise.map { 1 + $0 }), to: folder.path("samples/0.npy"))
      try NPY.write(
        Tensor([9, 4], [Float](repeating: 1, count: 36)), to: folder.path("samples/0.y.npy"))
      let result = try Tool.qverify(folder.path("y.qm"), folder.path("samples"), "--json")
      #expect(result.status == status, "\(type), \(sample ?? ""), \(decibels): \(result.errors)")
      let report = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
      let output = ((report as? [String: Any])?["outputs"] as? [[String: Any]])?.first
      #expect(output?["samples"] as? Int == judged)
      let worst = output?["worst_sample"] as? String
      if judged > 1, status == 0 { #expect(worst == "0[8]") }
    }
  }

  /// A file of one Relu, `y.qm`, that states these figures.
  private func write(
    _ figures: [(Program.Metadata.Measure, Float)], of samples: Int,
    _ type: ValueType = ValueType(.float32, [4]), sample: String? = nil, to folder: Folder
  ) throws {
    var program = Program(
      values: [.init(type, name: "x"), .init(type, name: "y")], constants: [],
      nodes: [.init(.unary(Unary(.relu)), inputs: [0], outputs: [1])], inputs: [0],
      outputs: [.init(name: "y", value: 1)])
    program.metadata.entries = sample.map { [.init("sample x", $0)] } ?? []
    program.metadata.measurements = figures.map {
      .init(output: 0, $0.0, $0.1, sampleCount: samples)
    }
    try Data(program.encoded()).write(to: URL(fileURLWithPath: folder.path("y.qm")))
    try FileManager.default.createDirectory(
      atPath: folder.path("samples"), withIntermediateDirectories: true)
  }

  /// A sample x, and beside it the output y from which x differs by so much.
  private func add(
    _ number: Int, magnitude: Float, decibels: Double, to folder: Folder
  ) throws {
    let noise = Float(pow(10, -decibels / 20))
    let right = (1...4).map { _ in magnitude }
    let stem = folder.path("samples/\(number)")
    try NPY.write(Tensor([4], right.map { $0 + $0 * noise }), to: stem + ".npy")
    try NPY.write(Tensor([4], right), to: stem + ".y.npy")
  }
}

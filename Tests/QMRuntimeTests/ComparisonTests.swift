import QMRuntime
import QMTensor
import Testing

@Suite struct ComparisonTests {
  @Test func figuresOfAKnownDifference() throws {
    var comparison = Comparison()
    try comparison.add(
      reference: Tensor([2, 2], [3, 4, 0, 0] as [Float]),
      measured: Tensor([2, 2], [3, 4.5, 0, 0] as [Float]))
    // 25 over 0.25.
    #expect(abs(comparison.signalToNoise - 20) < 1e-9)
    #expect(comparison.largestDifference == 0.5)
    #expect(abs(comparison.cosine - 27 / (25 * 29.25).squareRoot()) < 1e-12)
    #expect(comparison.topOneAgreement == 1)
    #expect((comparison.sampleCount, comparison.elementCount) == (1, 4))

    try comparison.add(
      reference: Tensor([1, 2], [1, 0] as [Float]), measured: Tensor([1, 2], [0, 1] as [Float]))
    #expect(comparison.topOneAgreement == 2.0 / 3)
    #expect(abs(comparison.signalToNoise - 10 * Comparison.decibels(26 / 2.25) / 10) < 1e-9)
  }

  @Test func theEndsOfTheScale() throws {
    let (zeros, ones) = (try Tensor([2], [0, 0] as [Float]), try Tensor([2], [1, 1] as [Float]))
    var equal = Comparison()
    try equal.add(reference: ones, measured: ones)
    #expect(equal.signalToNoise == .infinity)
    #expect(equal.cosine == 1)

    var nothing = Comparison()
    try nothing.add(reference: zeros, measured: ones)
    #expect(nothing.signalToNoise == -.infinity)

    var broken = Comparison()
    try broken.add(reference: ones, measured: Tensor([2], [1, .nan] as [Float]))
    #expect(broken.signalToNoise == -.infinity)
    #expect(broken.largestDifference == .infinity)
  }

  /// Two of three samples have a signal of 10, one is almost silent: alone it is compared with the
  /// signal of the others, as loud ones are with their own.
  @Test func aFewSamplesAreComparedWithTheUsualSignal() {
    func add(_ signal: Float, to comparison: inout Comparison) {
      comparison.add([signal, -signal], [signal + 1, -signal], rowLength: 1)
    }
    var many = Comparison()
    for signal in [10, 1, 10] as [Float] { add(signal, to: &many) }
    #expect(many.medianMagnitude == 10)
    let usual = Comparison.decibels(200)
    #expect(many.medianSignalToNoise == usual)
    for (signal, decibels) in [(1, usual), (10, usual), (100, usual + 20)] as [(Float, Double)] {
      var one = Comparison(leastMagnitude: many.medianMagnitude)
      add(signal, to: &one)
      #expect(abs(one.medianSignalToNoise - decibels) < 1e-9)
    }
    var alone = Comparison()
    add(1, to: &alone)
    #expect(abs(alone.medianSignalToNoise - usual + 20) < 1e-9)
    #expect(Comparison().medianMagnitude == 0)
  }

  /// Of 10, 20, 20, 26 dB and one sample without a difference, the median is 20 dB, and the others
  /// that differ are 0, 6 and 10 dB from it.
  @Test func theDeviationIsThatOfTheOtherSamples() {
    var comparison = Comparison()
    for decibels in [20, 10, 26, 20, .infinity] as [Double] {
      let noise = Float(1 / Comparison.ratio(ofDecibels: decibels).squareRoot())
      comparison.add([1], [1 + noise], rowLength: 1)
    }
    #expect(abs(comparison.medianSignalToNoise - 20) < 1e-4)
    #expect(abs(comparison.deviation - 6) < 1e-4)
  }

  @Test func otherTypesAreNumbersAndOtherShapesAreRefused() throws {
    let codes = try Tensor([3], [1, 2, 3] as [Int64])
    var comparison = Comparison()
    try comparison.add(reference: codes, measured: Tensor([3], [1, 2, 5] as [Int64]))
    #expect(comparison.largestDifference == 2)
    #expect(throws: QMError.invalidInput("")) {
      try comparison.add(reference: codes, measured: Tensor([1, 3], [1, 2, 3] as [Int64]))
    }
    #expect(throws: QMError.invalidInput("")) {
      try comparison.add(reference: codes, measured: Tensor([3], [1, 2, 3] as [Int32]))
    }
  }
}

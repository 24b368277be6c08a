import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct ResizeTests {
  private func scaled(_ scales: [Float]) throws -> Given { try Given([scales.count], scales) }

  @Test func linearByHand() throws {
    let data = try Given([1, 1, 2], [Float(1), 3])
    let resize = Resize(.linear, .halfPixel, axes: [2])
    let output: [Float] = try resize.run([data, scaled([2])])[0].elements()
    #expect(output == [1, 1.5, 2.5, 3])
    let corners = Resize(.linear, .alignedCorners, axes: [2])
    let even: [Float] = try corners.run([data, Given.integers([5])])[0].elements()
    #expect(even == [1, 1.5, 2, 2.5, 3])
  }

  @Test func nearestMovesCodes() throws {
    let grid = Quantization.fixed(scale: 0.5, zeroPoint: 3)
    let codes = try Given([1, 2, 2], [Int8(1), 2, 3, 4], grid)
    let resize = Resize(.nearest(.floor), .asymmetric, axes: [1, 2])
    let result = try resize.run([codes, scaled([1, 2])])[0]
    #expect(result.elements(as: Int8.self) == [1, 1, 2, 2, 3, 3, 4, 4])
    #expect(try resize.types(for: [codes, scaled([1, 2])])[0].quantization == grid)
  }

  /// Whatever the mode, both layouts give the same bits, and kernels those of the loops.
  @Test func layoutsAndKernelsAgree() throws {
    var generator = SeededGenerator(seed: 41)
    let modes: [Resize.Mode] = [
      .nearest(.nearestPreferringFloor), .nearest(.ceiling), .linear, .cubic(coefficient: -0.75),
    ]
    let toLast = Transpose(permutation: [0, 2, 3, 1])
    for mode in modes {
      for coordinates in [Resize.Coordinates.halfPixel, .halfPixelSymmetric, .alignedCorners] {
        for scales: [Float] in [[2, 3], [0.6, 0.4], [1, 1.7], [2.5, 1]] {
          for antialias in [false, true] {
            let data = Given(try generator.numbers([2, 3, 7, 5]))
            var resize = Resize(
              mode, coordinates, axes: [2, 3], antialias: antialias, excludesOutside: antialias)
            let first = try resize.run([data, scaled(scales)])[0]
            resize.axes = [1, 2]
            let last = try resize.run([Given(toLast.run([data])[0]), scaled(scales)])[0]
            #expect(try toLast.run([Given(first)])[0].isIdentical(to: last))
          }
        }
      }
    }
  }

  @Test func outsideOfARegionLiesTheExtrapolation() throws {
    let data = try Given([3], [Float(1), 2, 3])
    let resize = Resize(.linear, .region, axes: [0], extrapolation: 9)
    let output: [Float] = try referenceOutputs(
      resize, [data, Given.integers([3]), Given([2], [Float(0.5), 1.5])])[0].elements()
    #expect(output == [2, 3, 9])
  }

  @Test func wrongTargetsAreRefused() throws {
    let data = try Given([2, 3], [Float](repeating: 1, count: 6))
    let resize = Resize(.linear, .halfPixel, axes: [1])
    for scale: Float in [0, -1, .nan, .infinity, 1e30] {
      #expect(throws: QMError.malformed("")) {
        try resize.types(for: [data, self.scaled([scale])])
      }
    }
    #expect(throws: QMError.malformed("")) { try resize.types(for: [data, Given.integers([-1])]) }
    #expect(throws: QMError.malformed("")) {
      try resize.types(for: [data, Given.integers([1, 2])])
    }
  }
}

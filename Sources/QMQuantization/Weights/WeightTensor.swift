import QMFormat
import QMOperations
import QMTensor

/// A weight tensor that is rounded to codes, of a network or of a checkpoint.
struct WeightTensor {
  /// float32, output channels or rows along axis 0.
  let weights: Tensor
  let use: WeightOperand.Use
  /// What is known of the windows by which it is multiplied; nil for tables, and with few samples.
  let covariance: InputCovariance?
  let kernels: KernelSet
  let threads: ThreadPool

  /// Codes and scales of a tensor, with their size and error.
  struct Rounded {
    let tensor: QuantizedTensor
    /// Estimated size of codes and scales in the file, in bits.
    let bits: Int
    /// Squared change of the product's outputs, relative to the square of the outputs; without a
    /// covariance, that of the weights.
    let error: Double
  }

  /// Rounds to the nearest codes, or with error compensation if the covariance is known.
  /// - Throws: `outOfMemory`.
  func rounded(to grid: WeightGrid) throws(QMError) -> QuantizedTensor {
    try grid.quantized(codes(grid).codes)
  }

  /// Rounds, and measures size and error.
  /// - Parameter energy: the error without any weight, ``energy()``.
  func measured(_ grid: WeightGrid, energy: Double) throws(QMError) -> Rounded {
    let (codes, error) = try codes(grid)
    var tight = try grid.quantized(codes)
    tight.codeRange = codes.withElements(as: Int8.self) { codes in
      codes.reduce(into: Int32(0)...0) {
        $0 = min($0.lowerBound, Int32($1))...max($0.upperBound, Int32($1))
      }
    }
    return Rounded(
      tensor: tight, bits: WeightTensor.storedBits(tight), error: energy > 0 ? error / energy : 0)
  }

  /// The error if all weights were zero.
  func energy() throws(QMError) -> Double {
    let nothing = WeightGrid(
      weights.shape, scales: [1], .perTensor, codes: 0...0)
    return try codes(nothing).error
  }

  private func codes(_ grid: WeightGrid) throws(QMError) -> (codes: Tensor, error: Double) {
    if let covariance {
      let (codes, errors) = try GPTQ(covariance, kernels: kernels, threads: threads)
        .round(weights, to: grid)
      return (codes, errors.reduce(0, +))
    }
    return try grid.nearest(weights)
  }

  /// The estimated size in the file.
  static func storedBits(_ tensor: QuantizedTensor) -> Int {
    func bits(_ tensor: Tensor, _ width: BitWidth?) -> Int {
      DataLayout.best(for: Array(tensor.bytes), tensor.elementType, width: width).bitCount
    }
    // The streams take a few bytes more than their symbols; 8 bytes are seldom exceeded.
    return bits(tensor.codes, BitWidth(holding: tensor.codeRange)) + bits(tensor.scales, nil) + 64
  }

  // MARK: Free steps

  /// Steps to try, in standard deviations of the weights: from about 7 bits to 1.2. On average over a
  /// network of fewer than 2 bits, to a third of a bit: else a large tensor takes what small ones need.
  static func steps(averageBits: Double) -> [Float] {
    let steps: [Float] = [
      1 / 32, 1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 4 / 3, 2,
    ]
    return averageBits < 2 ? steps + [8 / 3, 4] : steps
  }

  /// One step for each channel, or for the tensor: a multiple of the standard deviation about 0, but
  /// at least so large that no weight needs a larger code.
  func freeGrid(
    step: Float, _ granularity: Granularity, largestCode: Int32
  ) -> WeightGrid {
    let parts = WeightGrid.parts(of: weights.shape, granularity)
    let scales = weights.withElements(as: Float.self) { elements in
      parts.map { part -> Float in
        var (sum, largest): (Float, Float) = (0, 0)
        for element in elements[part] {
          sum += element * element
          largest = max(largest, abs(element))
        }
        // A channel of almost zeros: see ``NearestRounding``.
        guard largest > 0x1p-48 else { return 1 }
        let deviation = (sum / Float(part.count)).squareRoot()
        let scale = max(step * deviation, largest / Float(largestCode))
        return parts.count > 1 ? WeightTensor.short(scale) : scale
      }
    }
    return WeightGrid(weights.shape, scales: scales, granularity, codes: -largestCode...largestCode)
  }

  /// The next larger number with four significant bits: scales of a file then have few different
  /// bytes, and a step that is up to an eighth coarser costs no more than it saves.
  private static func short(_ scale: Float) -> Float {
    let rest = UInt32(1) << 20 - 1
    return Float(bitPattern: (scale.bitPattern + rest) & ~rest)
  }
}

extension WeightGrid {
  /// The nearest codes, and the squared error of all weights.
  func nearest(_ weights: Tensor) throws(QMError) -> (codes: Tensor, error: Double) {
    let (lowest, highest) = (Float(codes.lowerBound), Float(codes.upperBound))
    var error = 0.0
    let parts = WeightGrid.parts(of: weights.shape, granularity)
    let codes = try weights.withElements(as: Float.self) { (elements) throws(QMError) in
      try Tensor(weights.shape, as: Int8.self) { codes in
        for (part, range) in parts.enumerated() {
          let (scale, inverse) = (scales[part], 1 / scales[part])
          for index in range {
            let code = min(max(elements[index] * inverse, lowest), highest).roundedWithin22Bits
            codes[index] = Int8(code)
            let difference = Double(elements[index] - code * scale)
            error += difference * difference
          }
        }
      }
    }
    return (codes, error)
  }
}

import QMTensor

/// The proof that no partial sum of an integer product exceeds its 32-bit accumulator, for any
/// input. For each output channel:
///
///     Σ|w − weight zero point| · (highest input code − lowest input code) + |bias| ≤ 2³¹ − 1
public enum AccumulatorBound {
  /// The largest magnitude that an accumulator holds.
  public static let largest = Int(Int32.max)

  /// Half of the accumulator's range. Conversion keeps the bias below it, and also the products of
  /// int16 codes, so that their sum is within the bound.
  public static let half = 1 << 30

  /// The highest code minus the lowest; nil for a type that holds no codes.
  public static func span(of elementType: ElementType) -> Int? {
    elementType.codes.map { Int($0.upperBound) - Int($0.lowerBound) }
  }

  /// Proves the bound for one product of a node.
  /// - Parameter operands: the node's operands, with its constants.
  /// - Throws: `malformed` if the bound does not hold or cannot be proven.
  public static func prove(_ sum: IntegerSum, _ operands: [Operand?]) throws(QMError) {
    guard let weights = operands.at(sum.weights), weights.type.elementType == .int8,
      weights.type.quantization != .none, let span = span(of: sum, operands)
    else { return }
    guard let codes = weights.constant else {
      guard case .fixed = weights.type.quantization else {
        throw .malformed("weights with weights quantization must be a constant")
      }
      // The type rule bounds the depth, even a dynamic one, but not the bias.
      guard sum.bias.flatMap({ operands.at($0) })?.type.elementType != .int32 else {
        throw .malformed("an int32 bias needs constant weights; use a float32 bias")
      }
      return
    }
    let biases = try magnitudes(of: sum.bias.flatMap { operands.at($0) })
    let depth = sum.layout.depth(of: codes.shape)
    guard depth > 0 else { return }
    // Usually the depth alone proves the bound, and no code needs to be read.
    let quantization = weights.type.quantization
    let left = largest - min(biases.max() ?? 0, largest)
    if depth <= left / (quantization.largestMagnitude * span) { return }
    var zeroPoint = 0
    if case .fixed(_, let point) = quantization { zeroPoint = Int(point) }
    let sums = magnitudes(of: codes, sum.layout, zeroPoint: zeroPoint)
    for (channel, magnitude) in sums.enumerated() {
      let bias = biases.isEmpty ? 0 : biases[channel % biases.count]
      guard magnitude * span + bias <= largest else {
        throw .malformed(
          "channel \(channel) may exceed 32 bits: the magnitudes of its weights add up to "
            + "\(magnitude), times \(span), plus a bias of \(bias)")
      }
    }
  }

  /// Whether every sum of products of these weights with codes of `elementType` stays below
  /// ``half``.
  /// - Parameter codes: int8 weights with zero point 0.
  public static func keepsHalf(
    _ codes: Tensor, _ layout: IntegerSum.Layout, by elementType: ElementType
  ) -> Bool {
    guard let span = span(of: elementType) else { return false }
    return magnitudes(of: codes, layout, zeroPoint: 0).allSatisfy { $0 * span < half }
  }

  private static func span(of sum: IntegerSum, _ operands: [Operand?]) -> Int? {
    guard let position = sum.input else { return span(of: .int8) }
    guard let input = operands.at(position), input.type.quantization != .none else { return nil }
    return span(of: input.type.elementType)
  }

  /// |bias| of each channel; empty if no bias is added to the accumulator.
  private static func magnitudes(of bias: Operand?) throws(QMError) -> [Int] {
    guard let bias, bias.type.elementType == .int32 else { return [] }
    guard let constant = bias.constant else {
      throw .malformed("an int32 bias must be a constant")
    }
    return constant.elements(as: Int32.self).map { Int($0.magnitude) }
  }

  /// Σ|code − zero point| over the depth, for each channel of each matrix of an int8 tensor.
  static func magnitudes(
    of codes: Tensor, _ layout: IntegerSum.Layout, zeroPoint: Int
  ) -> [Int] {
    let depth = layout.depth(of: codes.shape)
    let channels = codes.shape.last ?? 0
    guard depth > 0, codes.elementCount > 0 else { return [] }
    return codes.withElements(as: Int8.self) { codes in
      switch layout {
      case .channelThenWindow, .channelThenDepth:
        return (0..<codes.count / depth).map { row in
          rowMagnitude(codes[row * depth..<(row + 1) * depth], Int32(zeroPoint))
        }
      case .depthThenChannel:
        return columnMagnitudes(codes, depth: depth, channels: channels, zeroPoint)
      }
    }
  }

  private static func rowMagnitude(
    _ row: Swift.Slice<UnsafeBufferPointer<Int8>>, _ zeroPoint: Int32
  ) -> Int {
    // The sum of a part fits 32 bits, so that the inner loop can be vectorized.
    let part = 1 << 20
    let row = UnsafeBufferPointer(rebasing: row)
    return stride(from: 0, to: row.count, by: part).reduce(0) { total, start in
      var sum: UInt32 = 0
      for code in row[start..<min(start + part, row.count)] {
        sum &+= (Int32(code) &- zeroPoint).magnitude
      }
      return total + Int(sum)
    }
  }

  private static func columnMagnitudes(
    _ codes: UnsafeBufferPointer<Int8>, depth: Int, channels: Int, _ zeroPoint: Int
  ) -> [Int] {
    var sums = [Int](repeating: 0, count: codes.count / depth)
    for row in 0..<codes.count / channels {
      let first = row / depth * channels
      for column in 0..<channels {
        sums[first + column] += abs(Int(codes[row * channels + column]) - zeroPoint)
      }
    }
    return sums
  }
}

extension IntegerSum.Layout {
  /// Number of weights in one sum.
  func depth(of shape: [Int]) -> Int {
    switch self {
    case .channelThenWindow: shape.dropFirst().reduce(1, *)
    case .channelThenDepth: shape.last ?? 0
    case .depthThenChannel: shape.count < 2 ? 0 : shape[shape.count - 2]
    }
  }
}

extension Quantization {
  /// The largest magnitude of an int8 code minus its zero point.
  fileprivate var largestMagnitude: Int {
    switch self {
    case .weights(let width, _): 1 << (width.bits - 1)
    case .fixed(_, let zeroPoint): 128 + Int(zeroPoint.magnitude)
    case .none, .dynamic: 128
    }
  }
}

extension [Operand?] {
  /// The operand at a position; nil if it is absent or the list is shorter.
  package func at(_ index: Int) -> Operand? { index < count ? self[index] : nil }
}

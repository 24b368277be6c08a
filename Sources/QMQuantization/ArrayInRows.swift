import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// An array as a matrix whose rows are its channels.
struct ArrayInRows {
  /// Index of the array.
  let array: Int
  /// float32 `[rows, depth]`.
  let tensor: Tensor
  let arrangement: ScaleArrangement
  /// Bits of its codes; nil for those of all arrays.
  let width: BitWidth?
  private let shape: [Int]

  /// - Parameter tensor: float32, at least one element.
  init(
    _ array: Int, _ tensor: Tensor, _ arrangement: ScaleArrangement, width: BitWidth?
  ) throws(QMError) {
    self.array = array
    self.arrangement = arrangement
    self.width = width
    shape = tensor.shape
    let (rows, depth) = (arrangement.rows, tensor.elementCount / arrangement.rows)
    guard arrangement.isInterleaved else {
      self.tensor = try Tensor(
        .float32, [rows, depth], buffer: tensor.buffer, byteOffset: tensor.byteOffset)
      return
    }
    self.tensor = try tensor.withElements(as: Float.self) { (elements) throws(QMError) in
      try Tensor([rows, depth], as: Float.self) { target in
        for row in 0..<rows {
          for index in 0..<depth { target[row * depth + index] = elements[index * rows + row] }
        }
      }
    }
  }

  /// Rounding to codes of this width with the scales of the arrangement.
  func fixedRounding(_ width: BitWidth) -> NearestRounding {
    NearestRounding(bits: width, granularity: arrangement.granularityOfRows)
  }

  /// Elements that are compared at a time, in whole rows: intermediate results take several times
  /// their memory.
  private static let blockLength = 1 << 20

  /// Adds the array and its dequantized codes.
  func compare(
    with rounded: QuantizedTensor, in comparison: inout Comparison
  ) throws(QMError) {
    let (rows, depth) = (tensor.shape[0], tensor.shape[1])
    let scales = rounded.scales.elements(as: Float.self)
    let scalesPerRow = rounded.granularity == .perTensor ? 0 : scales.count / rows
    let step = max(1, ArrayInRows.blockLength / depth)
    for first in stride(from: 0, to: rows, by: step) {
      let count = min(step, rows - first)
      func block(_ tensor: Tensor, _ type: ElementType) throws(QMError) -> Tensor {
        try Tensor(
          type, [count, depth], buffer: tensor.buffer,
          byteOffset: tensor.byteOffset + type.byteCount * first * depth)
      }
      let ofBlock =
        scalesPerRow == 0
        ? scales : Array(scales[scalesPerRow * first..<scalesPerRow * (first + count)])
      let scaleShape = try rounded.granularity.scaleShape(of: Shape([count, depth])).extents
      let measured = try Operation.dequantize(Dequantize()).evaluate(
        [block(rounded.codes, .int8), Tensor(scaleShape ?? [ofBlock.count], ofBlock)],
        quantizations: [rounded.quantization, .none])[0]
      try comparison.add(
        block(tensor, .float32).elements(), measured.elements(), rowLength: 1)
    }
  }

  /// The codes in the shape of the array, and their scales.
  func constants(_ rounded: QuantizedTensor) throws(QMError) -> [Program.Constant] {
    let granularity =
      rounded.granularity == .perTensor ? Granularity.perTensor : arrangement.granularity
    var scales = rounded.scales.elements(as: Float.self)
    var codes = try Tensor(
      .int8, shape, buffer: rounded.codes.buffer, byteOffset: rounded.codes.byteOffset)
    if arrangement.isInterleaved {
      let (rows, depth) = (tensor.shape[0], tensor.shape[1])
      codes = try rounded.codes.withElements(as: Int8.self) { (elements) throws(QMError) in
        try Tensor(shape, as: Int8.self) { target in
          for index in 0..<depth {
            for row in 0..<rows { target[index * rows + row] = elements[row * depth + index] }
          }
        }
      }
      if granularity != .perTensor {
        let groups = scales.count / rows
        scales = (0..<scales.count).map { scales[$0 % rows * groups + $0 / rows] }
      }
    }
    let scaleShape = try granularity.scaleShape(of: Shape(shape)).extents
    guard case .weights(let bits, _) = rounded.quantization else {
      throw .malformed("codes without a width")
    }
    return [
      .init(codes, .weights(bits: bits, granularity: granularity)),
      .init(try Tensor(scaleShape ?? [scales.count], scales)),
    ]
  }
}

/// Which elements of an array share a scale: all or some of a row of a matrix that has the elements
/// of the array in their order, or of a column.
struct ScaleArrangement {
  /// Number of rows, or of columns if ``isInterleaved``.
  let rows: Int
  /// Whether elements of a column share a scale, which lie ``rows`` apart.
  let isInterleaved: Bool
  /// In terms of the array's axes.
  let granularity: Granularity
  /// In terms of the rows.
  let granularityOfRows: Granularity

  /// - Parameters:
  ///   - tensor: an array of at least one element.
  ///   - granularity: per tensor, or else per channel.
  ///   - groupSize: nil, or elements per scale, at least 1.
  init(of tensor: Tensor, _ granularity: Granularity, groupSize: Int?) {
    let shape = tensor.shape
    let channelAxis = granularity == .perTensor ? nil : ScaleArrangement.channelAxis(of: tensor)
    let isLast = (channelAxis ?? 0) > 0
    let groupAxis = isLast ? 0 : shape.count - 1
    if let groupSize, granularity != .perTensor, shape.count > 1, shape[groupAxis] > groupSize {
      rows = tensor.elementCount / shape[groupAxis]
      isInterleaved = isLast
      self.granularity = .perGroup(axis: groupAxis, size: groupSize)
      granularityOfRows = .perGroup(axis: 1, size: groupSize)
      return
    }
    rows = channelAxis.map { shape[$0] } ?? 1
    isInterleaved = isLast
    self.granularity = channelAxis.map { .perChannel(axis: $0) } ?? .perTensor
    granularityOfRows = channelAxis == nil ? .perTensor : .perChannel(axis: 0)
  }

  /// The first or the last axis, whichever gives the smaller scales: the mean over its channels of
  /// the squared largest magnitude is lower. nil if channels would have too few elements per scale.
  private static func channelAxis(of tensor: Tensor) -> Int? {
    guard tensor.shape.count > 1 else { return nil }
    var best: (axis: Int, spread: Double)?
    for axis in [0, tensor.shape.count - 1] {
      let channels = tensor.shape[axis]
      guard channels > 1, tensor.elementCount / channels >= Checkpoint.leastElementsPerScale
      else { continue }
      let inner = axis == 0 ? tensor.elementCount / channels : 1
      var largest = [Float](repeating: 0, count: channels)
      tensor.withElements(as: Float.self) { elements in
        for (index, element) in elements.enumerated() {
          let channel = index / inner % channels
          largest[channel] = max(largest[channel], abs(element))
        }
      }
      let spread =
        largest.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(channels)
      if best.map({ spread < $0.spread }) ?? true { best = (axis, spread) }
    }
    return best?.axis
  }
}

import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Quantized arrays without a network, for example the weights of a training checkpoint.
///
/// The program has no inputs, and each array is an output of the same name: a Dequantize of codes,
/// or a constant. A run of the program returns the arrays, so every reader of the format can read
/// them.
///
/// Float arrays with at least two axes and long vectors are quantized. Short vectors (biases,
/// norms) stay float32: they take few bytes, and their error reaches every element of a layer's
/// output. Integers and bools are stored unchanged.
public struct Checkpoint: Sendable {
  /// The program for the file.
  public let program: Program
  /// Each float array compared with what the program returns, by name. The comparison of an array
  /// that is not quantized is empty.
  public let comparisons: [String: Comparison]

  /// Number of elements from which a vector is quantized.
  static let longVector = 4096
  /// Least number of elements for which a separate scale saves bytes.
  static let leastElementsPerScale = 16

  /// Quantizes arrays.
  /// - Parameters:
  ///   - arrays: with names that are all different.
  ///   - weights: how float arrays are stored.
  ///   - widths: other widths for the arrays whose names match; the last rule that matches holds.
  ///   - granularity: per tensor, or per channel along the first or the last axis, whichever has
  ///     the smaller expected error; the axis in the granularity is not used.
  ///   - groupSize: if not nil, so many consecutive elements of a channel share a scale, along the
  ///     last axis if the channels are along the first, and the other way round.
  ///   - metadata: for the file; measurements are added.
  ///   - progress: called after each array.
  /// - Throws: `invalidInput` for an array with NaN, an infinity or a number too large for float32,
  ///   with its name and index; `usage` if no array matches a rule; `malformed` for an array that a
  ///   file cannot hold.
  public init(
    _ arrays: [(name: String, tensor: Tensor)], weights: Recipe.WeightWidth,
    widths: [Recipe.WidthRule] = [], granularity: Granularity = .perChannel(axis: 0),
    groupSize: Int? = nil, metadata: Program.Metadata = .init(),
    progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) {
    let isFloat = weights == .float16 || weights == .float32
    guard isFloat || weights.codeWidth != nil else {
      throw .usage("\(weights.bits) bits for arrays; expected 2 to 8 without a fraction, 16 or 32")
    }
    let ownWidths = try Checkpoint.widths(of: arrays.map(\.name), widths)
    var constants: [Program.Constant] = []
    /// For each array: its first constant, and whether the next constant holds its scales.
    var places: [(constant: Int, hasScales: Bool)] = []
    var comparisons: [String: Comparison] = [:]
    for (index, (name, given)) in arrays.enumerated() {
      try within(.value(name)) { () throws(QMError) in
        guard given.elementType.isFloatingPoint else {
          places.append((constants.count, false))
          constants.append(.init(given))
          return
        }
        let tensor = try given.converted(to: .float32)
        try Checkpoint.requireFinite(tensor)
        var comparison = Comparison()
        if let bits = weights.codeWidth, Checkpoint.becomesCodes(tensor) {
          let rounded = try Checkpoint.round(
            tensor, ownWidths[name] ?? bits,
            ScaleArrangement(of: tensor, granularity, groupSize: groupSize),
            comparing: &comparison)
          places.append((constants.count, true))
          constants.append(rounded.codes)
          constants.append(.init(rounded.scales))
        } else {
          places.append((constants.count, false))
          let stored =
            try weights == .float16 && Checkpoint.becomesCodes(tensor)
            ? Checkpoint.half(tensor, comparing: &comparison) : tensor
          constants.append(.init(stored))
        }
        comparisons[name] = comparison
      }
      progress(index + 1)
    }
    program = Checkpoint.program(arrays.map(\.name), constants, places, comparisons, metadata)
    self.comparisons = comparisons
  }

  /// The widths of the arrays that match a rule, by name.
  private static func widths(
    of names: [String], _ rules: [Recipe.WidthRule]
  ) throws(QMError) -> [String: BitWidth] {
    var widths: [String: BitWidth] = [:]
    for rule in rules {
      let matching = rule.nodes.matching(names)
      guard !matching.isEmpty else {
        throw .usage(
          "no array matches the pattern '\(rule.nodes.text.abbreviated)'; found \(names.listed)")
      }
      for name in matching { widths[name] = rule.width }
    }
    return widths
  }

  private static func program(
    _ names: [String], _ constants: [Program.Constant],
    _ places: [(constant: Int, hasScales: Bool)], _ comparisons: [String: Comparison],
    _ metadata: Program.Metadata
  ) -> Program {
    var values = constants.enumerated().map { Program.Value($1.type, constant: $0) }
    var nodes: [Program.Node] = []
    var outputs: [Program.Output] = []
    for (name, place) in zip(names, places) {
      if place.hasScales {
        nodes.append(
          Program.Node(
            .dequantize(Dequantize()), inputs: [place.constant, place.constant + 1],
            outputs: [values.count]))
        outputs.append(.init(name: name, value: values.count))
        values.append(Program.Value(ValueType(.float32, constants[place.constant].type.shape)))
      } else {
        outputs.append(.init(name: name, value: place.constant))
      }
    }
    var metadata = metadata
    for (index, name) in names.enumerated() {
      guard let comparison = comparisons[name], comparison.sampleCount > 0 else { continue }
      // An array counts as one sample, although it was compared block by block.
      metadata.measurements += comparison.measurements(output: index)
        .filter { $0.measure != .topOneAgreement }
        .map { .init(output: $0.output, $0.measure, $0.value, sampleCount: 1) }
    }
    return Program(
      values: values, constants: constants, nodes: nodes, inputs: [], outputs: outputs,
      metadata: metadata)
  }

  /// The float16 numbers next to the elements; the elements if one is too large.
  private static func half(
    _ tensor: Tensor, comparing comparison: inout Comparison
  ) throws(QMError) -> Tensor {
    guard tensor.withElements(as: Float.self, { $0.allSatisfy { abs($0) <= 65504 } }) else {
      return tensor
    }
    let half = try tensor.converted(to: .float16)
    try comparison.add(reference: tensor, measured: half.converted(to: .float32))
    return half
  }

  /// Checks that all elements are finite float32 numbers.
  /// - Throws: `invalidInput` with the index of the first element that is NaN or infinite, or too
  ///   large for float32.
  public static func requireFinite(_ tensor: Tensor) throws(QMError) {
    let numbers = try tensor.converted(to: .float32)
    let place = numbers.withElements(as: Float.self) { elements in
      elements.firstIndex { !$0.isFinite }
    }
    guard let place else { return }
    var (rest, index) = (place, tensor.shape)
    for axis in tensor.shape.indices.reversed() {
      (rest, index[axis]) = rest.quotientAndRemainder(dividingBy: tensor.shape[axis])
    }
    let found = numbers.withElements(as: Float.self) { $0[place] }
    throw .invalidInput(
      "element \(index) is \(found.isNaN ? "NaN" : "infinite"), which has no code; fix the array "
        + "or leave it out")
  }

  // MARK: Rounding

  private static func becomesCodes(_ tensor: Tensor) -> Bool {
    let count = tensor.elementCount
    return tensor.shape.count > 1 ? count >= leastElementsPerScale : count >= longVector
  }

  /// Elements that are rounded at a time, in whole channels: intermediate results take several
  /// times their memory.
  private static let blockLength = 1 << 20

  /// The codes and scales of an array. The array and its dequantized codes are added to
  /// `comparison`.
  private static func round(
    _ tensor: Tensor, _ bits: BitWidth, _ arrangement: ScaleArrangement,
    comparing comparison: inout Comparison
  ) throws(QMError) -> (codes: Program.Constant, scales: Tensor) {
    let (rows, isInterleaved) = (arrangement.rows, arrangement.isInterleaved)
    let depth = tensor.elementCount / rows
    let rounding = NearestRounding(bits: bits, granularity: arrangement.granularityOfRows)
    let codes = try Tensor(zeros: .int8, tensor.shape)
    let target = codes.buffer.base.assumingMemoryBound(to: Int8.self)
    var scales: [Float] = []
    let step = max(1, blockLength / depth)
    for first in stride(from: 0, to: rows, by: step) {
      let count = min(step, rows - first)
      let block =
        isInterleaved
        ? try columns(first..<first + count, of: tensor, rows)
        : try Tensor(
          .float32, [count, depth], buffer: tensor.buffer,
          byteOffset: tensor.byteOffset + 4 * first * depth)
      let rounded = try rounding.quantize(block)
      scales += rounded.scales.elements(as: Float.self)
      let measured = try Operation.dequantize(Dequantize()).evaluate(
        [rounded.codes, rounded.scales],
        quantizations: [.weights(bits: bits, granularity: rounding.granularity), .none])[0]
      comparison.add(block.elements(), measured.elements(), rowLength: 1)
      rounded.codes.withElements(as: Int8.self) { elements in
        for row in 0..<count {
          for index in 0..<depth {
            let place =
              isInterleaved ? index * rows + first + row : (first + row) * depth + index
            target[place] = elements[row * depth + index]
          }
        }
      }
    }
    if isInterleaved {
      let groups = scales.count / rows
      scales = (0..<scales.count).map { scales[$0 % rows * groups + $0 / rows] }
    }
    let shape = try arrangement.granularity.scaleShape(of: Shape(tensor.shape)).extents
    return (
      .init(codes, .weights(bits: bits, granularity: arrangement.granularity)),
      try Tensor(shape ?? [scales.count], scales)
    )
  }

  /// Columns of an array, seen as a matrix of `width` columns, as rows: `[range.count, depth]`.
  private static func columns(_ range: Range<Int>, of tensor: Tensor, _ width: Int)
    throws(QMError) -> Tensor
  {
    let depth = tensor.elementCount / width
    let elements = tensor.withElements(as: Float.self) { elements in
      range.flatMap { column in
        (0..<depth).lazy.map { elements[$0 * width + column] }
      }
    }
    return try Tensor([range.count, depth], elements)
  }
}

/// Which elements of an array share a scale: all or some of a row of a matrix that has the elements
/// of the array in their order, or of a column.
private struct ScaleArrangement {
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

extension Comparison {
  /// The measurements as a file stores them.
  fileprivate func measurements(output: Int) -> [Program.Metadata.Measurement] {
    var measurements: [Program.Metadata.Measurement] = [
      .init(
        output: output, .signalToNoise, Float(signalToNoise), sampleCount: sampleCount),
      .init(
        output: output, .largestDifference, Float(largestDifference), sampleCount: sampleCount),
      .init(output: output, .cosine, Float(cosine), sampleCount: sampleCount),
    ]
    if let topOneAgreement {
      measurements.append(
        .init(
          output: output, .topOneAgreement, Float(topOneAgreement), sampleCount: sampleCount))
    }
    return measurements
  }
}

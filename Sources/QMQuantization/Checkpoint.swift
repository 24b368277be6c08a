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
  ///   - granularity: per tensor, or per channel along the first or the last axis, whichever has
  ///     the smaller expected error; the axis in the granularity is not used.
  ///   - metadata: for the file; measurements are added.
  ///   - progress: called after each array.
  /// - Throws: `invalidInput` for an array with NaN, an infinity or a number too large for float32,
  ///   with its name and index; `malformed` for an array that a file cannot hold.
  public init(
    _ arrays: [(name: String, tensor: Tensor)], weights: Recipe.WeightWidth,
    granularity: Granularity = .perChannel(axis: 0), metadata: Program.Metadata = .init(),
    progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) {
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
        if case .codes(let bits) = weights, Checkpoint.becomesCodes(tensor) {
          let rounded = try Checkpoint.round(tensor, bits, granularity, comparing: &comparison)
          places.append((constants.count, true))
          constants.append(rounded.codes)
          constants.append(.init(rounded.scales))
        } else {
          places.append((constants.count, false))
          constants.append(.init(tensor))
        }
        comparisons[name] = comparison
      }
      progress(index + 1)
    }
    program = Checkpoint.program(arrays.map(\.name), constants, places, comparisons, metadata)
    self.comparisons = comparisons
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
      values[place.constant].name = name
      if place.hasScales {
        values[place.constant + 1].name = "\(name) scales"
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
    for (index, name) in names.enumerated() where places[index].hasScales {
      guard let comparison = comparisons[name] else { continue }
      // An array counts as one sample, although it was compared block by block.
      metadata.measurements += comparison.measurements(output: index)
        .filter { $0.measure != .topOneAgreement }
        .map { .init(output: $0.output, $0.measure, $0.value, sampleCount: 1) }
    }
    return Program(
      values: values, constants: constants, nodes: nodes, inputs: [], outputs: outputs,
      metadata: metadata)
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
    _ tensor: Tensor, _ bits: BitWidth, _ granularity: Granularity,
    comparing comparison: inout Comparison
  ) throws(QMError) -> (codes: Program.Constant, scales: Tensor) {
    let axis = granularity == .perTensor ? nil : channelAxis(of: tensor)
    // Channels along the last axis are interleaved: their elements lie `channels` apart.
    let isInterleaved = axis.map { $0 > 0 } ?? false
    let channels = axis.map { tensor.shape[$0] } ?? 1
    let depth = tensor.elementCount / channels
    let rounding = NearestRounding(
      bits: bits, granularity: axis == nil ? .perTensor : .perChannel(axis: 0))
    let codes = try Tensor(zeros: .int8, tensor.shape)
    let target = codes.buffer.base.assumingMemoryBound(to: Int8.self)
    var scales: [Float] = []
    let step = max(1, blockLength / depth)
    for first in stride(from: 0, to: channels, by: step) {
      let count = min(step, channels - first)
      let block =
        isInterleaved
        ? try columns(first..<first + count, of: tensor, channels)
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
        for channel in 0..<count {
          for index in 0..<depth {
            let place =
              isInterleaved
              ? index * channels + first + channel : (first + channel) * depth + index
            target[place] = elements[channel * depth + index]
          }
        }
      }
    }
    return (
      .init(
        codes,
        .weights(bits: bits, granularity: axis.map { .perChannel(axis: $0) } ?? .perTensor)),
      try Tensor([scales.count], scales)
    )
  }

  /// Channels along the last axis as rows, `[range.count, depth]`.
  private static func columns(_ range: Range<Int>, of tensor: Tensor, _ channels: Int)
    throws(QMError) -> Tensor
  {
    let depth = tensor.elementCount / channels
    let elements = tensor.withElements(as: Float.self) { elements in
      range.flatMap { channel in
        (0..<depth).lazy.map { elements[$0 * channels + channel] }
      }
    }
    return try Tensor([range.count, depth], elements)
  }

  /// The first or the last axis, whichever gives the smaller scales: the mean over its channels of
  /// the squared largest magnitude is lower. nil if channels would have too few elements per scale.
  private static func channelAxis(of tensor: Tensor) -> Int? {
    guard tensor.shape.count > 1 else { return nil }
    var best: (axis: Int, spread: Double)?
    for axis in [0, tensor.shape.count - 1] {
      let channels = tensor.shape[axis]
      guard channels > 1, tensor.elementCount / channels >= leastElementsPerScale else { continue }
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

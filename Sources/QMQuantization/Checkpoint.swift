import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Named arrays without a network, made small.
///
/// The program has no inputs, and every array is an output under its own name: codes of weights
/// behind a Dequantize, or the elements as they are. So a run of it gives the arrays back, and
/// whoever reads the format can read them.
///
/// Codes are made of float arrays of two axes or more, and of long vectors. Short vectors (biases,
/// norms) stay float32: their bytes are few and their error is felt by every element. Integers and
/// truth values keep their type and their numbers.
public struct Checkpoint: Sendable {
  /// What goes into the file.
  public let program: Program
  /// Each float array against what the program gives back, by name; empty where that is the same.
  public let comparisons: [String: Comparison]

  /// Elements from which on a vector becomes codes.
  static let longVector = 4096
  /// Fewer elements than this are not worth a scale of their own.
  static let leastElementsPerScale = 16

  /// - Parameters:
  ///   - arrays: their names are all different.
  ///   - weights: how float arrays are stored.
  ///   - granularity: per tensor, or per channel along whichever of the first and the last axis
  ///     promises the lesser error.
  ///   - metadata: for the file; measurements are added.
  ///   - progress: told after each array.
  /// - Throws: `invalidInput` for an array that holds NaN, an infinity or a number beyond float32,
  ///   with its name and index; `malformed` for what no file can hold.
  public init(
    _ arrays: [(name: String, tensor: Tensor)], weights: Recipe.WeightWidth,
    granularity: Granularity = .perChannel(axis: 0), metadata: Program.Metadata = .init(),
    progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) {
    var constants: [Program.Constant] = []
    /// Of each array: its first constant, and whether a second holds its scales.
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
      // An array is one sample, in however many parts it was compared.
      metadata.measurements += comparison.measurements(output: index)
        .filter { $0.measure != .topOneAgreement }
        .map { .init(output: $0.output, $0.measure, $0.value, sampleCount: 1) }
    }
    return Program(
      values: values, constants: constants, nodes: nodes, inputs: [], outputs: outputs,
      metadata: metadata)
  }

  /// - Throws: `invalidInput` with the index of the first element that is NaN or infinite, or that
  ///   float32 cannot hold.
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
      "element \(index) is \(found.isNaN ? "NaN" : "infinite"): no code can stand for it; fix the "
        + "array or leave it out")
  }

  // MARK: Rounding

  private static func becomesCodes(_ tensor: Tensor) -> Bool {
    let count = tensor.elementCount
    return tensor.shape.count > 1 ? count >= leastElementsPerScale : count >= longVector
  }

  /// Elements that are rounded at a time, at least one channel: what is made on the way takes
  /// several times their memory.
  private static let blockLength = 1 << 20

  /// The codes and scales of an array, which `comparison` sees beside it.
  private static func round(
    _ tensor: Tensor, _ bits: BitWidth, _ granularity: Granularity,
    comparing comparison: inout Comparison
  ) throws(QMError) -> (codes: Program.Constant, scales: Tensor) {
    let axis = granularity == .perTensor ? nil : channelAxis(of: tensor)
    // The channels' elements lie together, or `channels` apart.
    let isTurned = axis.map { $0 > 0 } ?? false
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
        isTurned
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
              isTurned ? index * channels + first + channel : (first + channel) * depth + index
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

  /// Some channels along the last axis, each a row of the result.
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

  /// The first or the last axis: the one along whose channels the grids are the finer, by the mean
  /// over the channels of the squared largest magnitude. nil where a scale would serve too few.
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

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
  ///
  /// In a free grid, the default below 8 bits, the arrays that become codes take the given number of
  /// bits on average in the file, scales included, divided so that the sum of their relative squared
  /// errors is as small as possible.
  /// - Parameters:
  ///   - arrays: with names that are all different.
  ///   - weights: how float arrays are stored.
  ///   - grid: which numbers they are rounded to.
  ///   - widths: other widths for the arrays whose names match; the last rule that matches holds.
  ///   - granularity: per tensor, or per channel along the first or the last axis, whichever has
  ///     the smaller expected error; the axis in the granularity is not used.
  ///   - groupSize: if not nil, so many consecutive elements of a channel share a scale, along the
  ///     last axis if the channels are along the first, and the other way round; in a fixed grid.
  ///   - metadata: for the file; measurements are added.
  ///   - progress: called after each array.
  /// - Throws: `invalidInput` for an array with NaN, an infinity or a number too large for float32,
  ///   with its name and index; `usage` if no array matches a rule, or for a number of bits that the
  ///   grid does not have; `malformed` for an array that a file cannot hold.
  public init(
    _ arrays: [(name: String, tensor: Tensor)], weights: Recipe.WeightWidth,
    grid: Recipe.Grid = .auto, widths: [Recipe.WidthRule] = [],
    granularity: Granularity = .perChannel(axis: 0), groupSize: Int? = nil,
    metadata: Program.Metadata = .init(), progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) {
    let ownWidths = try Checkpoint.widths(of: arrays.map(\.name), widths)
    var floats: [Int: Tensor] = [:]
    var rows: [ArrayInRows] = []
    for (index, (name, given)) in arrays.enumerated() where given.elementType.isFloatingPoint {
      try within(.value(name)) { () throws(QMError) in
        let tensor = try given.converted(to: .float32)
        try Checkpoint.requireFinite(tensor)
        floats[index] = tensor
        guard case .codes = weights, Checkpoint.becomesCodes(tensor) else { return }
        rows.append(
          try ArrayInRows(
            index, tensor, ScaleArrangement(of: tensor, granularity, groupSize: groupSize),
            width: ownWidths[name]))
      }
    }
    let rounded = try Checkpoint.rounded(rows, weights, grid, groupSize: groupSize)
    var codes: [Int: (ArrayInRows, QuantizedTensor)] = [:]
    for (rows, rounded) in zip(rows, rounded) { codes[rows.array] = (rows, rounded) }
    var constants: [Program.Constant] = []
    /// For each array: its first constant, and whether the next constant holds its scales.
    var places: [(constant: Int, hasScales: Bool)] = []
    var comparisons: [String: Comparison] = [:]
    for (index, (name, given)) in arrays.enumerated() {
      try within(.value(name)) { () throws(QMError) in
        places.append((constants.count, codes[index] != nil))
        guard let tensor = floats[index] else {
          constants.append(.init(given))
          return
        }
        var comparison = Comparison()
        if let (rows, rounded) = codes[index] {
          try rows.compare(with: rounded, in: &comparison)
          constants += try rows.constants(rounded)
        } else {
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

  /// The widths that arrays can have in this grid, in ascending order.
  package static func widths(_ grid: Recipe.Grid, groupSize: Int?) -> [Double] {
    isFree(grid, 1.5, groupSize: groupSize) ? Recipe.Grid.free.widths : Recipe.Grid.fixed.widths
  }

  private static func isFree(_ grid: Recipe.Grid, _ bits: Double, groupSize: Int?) -> Bool {
    grid == .free || grid == .auto && bits < 8 && groupSize == nil
  }

  /// Codes and scales of the arrays that become codes.
  private static func rounded(
    _ arrays: [ArrayInRows], _ weights: Recipe.WeightWidth, _ grid: Recipe.Grid, groupSize: Int?
  ) throws(QMError) -> [QuantizedTensor] {
    guard case .codes(let bits) = weights, !arrays.isEmpty else { return [] }
    if Checkpoint.isFree(grid, bits, groupSize: groupSize) {
      var fixedGrids: [Int: WeightGrid] = [:]
      for (index, rows) in arrays.enumerated() {
        fixedGrids[index] = try rows.width.map { (width) throws(QMError) in
          try rows.fixedRounding(width).grid(for: rows.tensor)
        }
      }
      let tensors = arrays.map {
        WeightTensor(
          weights: $0.tensor, use: .product, covariance: nil, kernels: .best,
          threads: ThreadPool(threadCount: 1))
      }
      return try FreeGridRounding(
        tensors, bits: bits, fixedGrids: fixedGrids,
        isPerTensor: arrays.allSatisfy { $0.arrangement.granularity == .perTensor }
      ).run { _ in }.map(\.rounded.tensor)
    }
    guard let width = weights.codeWidth else {
      throw .usage("\(bits) bits for arrays in a fixed grid; expected 2 to 8 without a fraction")
    }
    return try arrays.map { (rows) throws(QMError) in
      try rows.fixedRounding(rows.width ?? width).quantize(rows.tensor)
    }
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

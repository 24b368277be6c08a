import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Compares the values of two programs that have the same name, to show where an error arises.
/// Codes are dequantized before the comparison.
public struct ValueComparison {
  /// One value that both programs have.
  public struct Entry: Sendable {
    /// Its name in both programs.
    public let name: String
    /// Name of the operation that computes the value in the measured program; empty for an input.
    public let operation: String
    /// The comparison over all samples.
    public let comparison: Comparison
    /// The range of the value's codes in the measured program, and the reference's numbers; nil unless
    /// the value is codes with a fixed range.
    public let range: ValueReport.Range?
    /// The ranges that runs compute for its codes in the measured program, and the reference's numbers;
    /// nil unless it is quantized with the data of the run.
    public let runRanges: ValueReport.RunRanges?
  }

  private let reference: Session
  private let measured: Session
  private let program: Program
  /// The name of each value that both programs have, by its index in the measured program.
  private let names: [Int: String]
  /// The index of each value in the reference program, by its name.
  private let referenceIndices: [String: Int]
  private var comparisons: [Int: Comparison] = [:]
  private var ranges: [Int: ValueReport.Range] = [:]
  private var runRanges: [Int: ValueReport.RunRanges] = [:]
  /// The value that is quantized with the data of the run, by the value of its scales and zero points.
  private let dynamicSources: [Int: Int]

  /// Prepares two programs with inputs of the same names.
  /// - Throws: the error of preparing a program.
  public init(
    _ measured: Program, against reference: Program, options: Model.Options = Model.Options()
  ) throws(QMError) {
    program = measured
    self.measured = Session(try Model(measured, options: options))
    self.reference = Session(try Model(reference, options: options))
    let known = ValueComparison.computed(reference)
    let indices = Dictionary(
      known.map { (reference.values[$0].name, $0) }, uniquingKeysWith: { first, _ in first })
    var names: [Int: String] = [:]
    for value in ValueComparison.computed(measured) {
      let name = measured.values[value].name
      if indices[name] != nil { names[value] = name }
    }
    self.names = names
    referenceIndices = indices
    var sources: [Int: Int] = [:]
    for node in measured.nodes {
      guard case .dynamicQuantize = node.operation, let source = node.inputs[0] else { continue }
      sources[node.outputs[1]] = source
    }
    dynamicSources = sources
  }

  /// The inputs and the outputs of nodes that have a name.
  private static func computed(_ program: Program) -> [Int] {
    (program.inputs + program.nodes.flatMap(\.outputs)).filter { !program.values[$0].name.isEmpty }
  }

  /// Runs both programs on one sample.
  /// - Throws: the error of a run.
  public mutating func add(_ inputs: [String: Tensor]) throws(QMError) {
    let wanted = Set(names.values.compactMap { referenceIndices[$0] })
    var expected: [Int: (shape: [Int], numbers: [Float])] = [:]
    _ = try reference.run(
      inputs,
      observing: { (value, view) throws(QMError) in
        guard wanted.contains(value), let numbers = view.dequantized else { return }
        expected[value] = (view.shape, numbers)
      })
    var (comparisons, ranges, runRanges) = (comparisons, ranges, runRanges)
    _ = try measured.run(
      inputs,
      observing: { (value, view) throws(QMError) in
        if let source = dynamicSources[value], let name = names[source],
          let index = referenceIndices[name], let (_, numbers) = expected[index]
        {
          runRanges[source] = view.adding(to: runRanges[source])
          runRanges[source]?.add(numbers)
        }
        guard let name = names[value], let index = referenceIndices[name],
          let (shape, numbers) = expected[index], shape == view.shape,
          let found = view.dequantized
        else { return }
        comparisons[value, default: Comparison()]
          .add(numbers, found, rowLength: shape.last ?? 1)
        if let range = view.codeRange {
          ranges[value, default: range].add(numbers)
        }
      })
    self.comparisons = comparisons
    self.ranges = ranges
    self.runRanges = runRanges
  }

  /// The compared values in the order in which the measured program computes them.
  public var entries: [Entry] {
    var operations: [Int: String] = [:]
    for node in program.nodes {
      for output in node.outputs { operations[output] = node.operation.name }
    }
    return comparisons.sorted { $0.key < $1.key }.map { value, comparison in
      Entry(
        name: program.values[value].name, operation: operations[value] ?? "",
        comparison: comparison, range: ranges[value], runRanges: runRanges[value])
    }
  }

  /// Enough samples to see where an error arises.
  package static let mostSamples = 8

  /// Compares two programs on the first samples of a source.
  /// - Parameter progress: called after each sample.
  /// - Throws: the error of preparing a program or of a run, with the sample as context.
  public static func reports(
    _ measured: Program, against reference: Program, on samples: any SampleSource,
    options: Model.Options, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(QMError) -> [ValueReport] {
    var comparison = try ValueComparison(measured, against: reference, options: options)
    let count = min(samples.count, mostSamples)
    for index in 0..<count {
      try within(.sample(samples.name(of: index))) { () throws(QMError) in
        try comparison.add(samples.inputs(of: index))
      }
      progress(index + 1, count)
    }
    return comparison.reports
  }

  /// The values as a report states them.
  public var reports: [ValueReport] {
    entries.map {
      ValueReport(
        name: $0.name, operation: $0.operation,
        signalToNoiseDecibels: $0.comparison.signalToNoise, range: $0.range,
        runRanges: $0.runRanges)
    }
  }
}

extension ValueView {
  /// The elements in float32; codes with fixed quantization are dequantized. nil for other types.
  var dequantized: [Float]? {
    switch (elementType, quantization) {
    case (.float32, .none): Array(elements(as: Float.self))
    case (.int8, .fixed(let scale, let zeroPoint)):
      elements(as: Int8.self).map { scale * Float(Int32($0) - zeroPoint) }
    case (.int16, .fixed(let scale, let zeroPoint)):
      elements(as: Int16.self).map { scale * Float(Int32($0) - zeroPoint) }
    default: nil
    }
  }

  /// Adds the ranges of int8 codes whose scales and zero points these are, in pairs.
  fileprivate func adding(to ranges: ValueReport.RunRanges?) -> ValueReport.RunRanges? {
    guard elementType == .float32 else { return ranges }
    var ranges = ranges
    let numbers = elements(as: Float.self)
    for place in stride(from: 0, to: numbers.count - 1, by: 2) {
      let (scale, zeroPoint) = (Double(numbers[place]), Double(numbers[place + 1]))
      guard scale > 0, scale.isFinite, zeroPoint.isFinite else { continue }
      let (low, high) = (scale * (-128 - zeroPoint), scale * (127 - zeroPoint))
      ranges = ranges ?? .init(low: low, high: high)
      ranges?.add(low: low, high: high)
    }
    return ranges
  }

  /// What codes stand for; nil without a fixed range.
  fileprivate var codeRange: ValueReport.Range? {
    guard case .fixed(let scale, let zeroPoint) = quantization, scale > 0, scale.isFinite else {
      return nil
    }
    let codes: ClosedRange<Int>
    switch elementType {
    case .int8: codes = -128...127
    case .int16: codes = -32768...32767
    default: return nil
    }
    return .init(
      low: Double(scale) * Double(codes.lowerBound - Int(zeroPoint)),
      high: Double(scale) * Double(codes.upperBound - Int(zeroPoint)), codeCount: codes.count)
  }
}

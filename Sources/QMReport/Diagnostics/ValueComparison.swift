import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Compares two programs value by value, by the names that both have, to show where an error
/// arises. Codes are compared as the numbers that they stand for.
public struct ValueComparison {
  /// One value that both programs have.
  public struct Entry: Sendable {
    /// Its name in both.
    public let name: String
    /// Operation that computes the value in the measured program; empty for an input.
    public let operation: String
    /// Over all samples.
    public let comparison: Comparison
  }

  private let reference: Session
  private let measured: Session
  private let program: Program
  /// In the measured program: number of each value that both have.
  private let names: [Int: String]
  private let referenceNumbers: [String: Int]
  private var comparisons: [Int: Comparison] = [:]

  /// Prepares two programs with inputs of the same names.
  /// - Throws: what preparing them throws.
  public init(
    _ measured: Program, against reference: Program, options: Model.Options = Model.Options()
  ) throws(QMError) {
    program = measured
    self.measured = Session(try Model(measured, options: options))
    self.reference = Session(try Model(reference, options: options))
    let known = ValueComparison.computed(reference)
    let numbers = Dictionary(
      known.map { (reference.values[$0].name, $0) }, uniquingKeysWith: { first, _ in first })
    var names: [Int: String] = [:]
    for value in ValueComparison.computed(measured) {
      let name = measured.values[value].name
      if numbers[name] != nil { names[value] = name }
    }
    self.names = names
    referenceNumbers = numbers
  }

  /// Inputs and results that have a name.
  private static func computed(_ program: Program) -> [Int] {
    (program.inputs + program.nodes.flatMap(\.outputs)).filter { !program.values[$0].name.isEmpty }
  }

  /// Runs both programs on one sample.
  /// - Throws: what the runs throw.
  public mutating func add(_ inputs: [String: Tensor]) throws(QMError) {
    let wanted = Set(names.values.compactMap { referenceNumbers[$0] })
    var expected: [Int: (shape: [Int], numbers: [Float])] = [:]
    _ = try reference.run(
      inputs,
      observing: { (value, view) throws(QMError) in
        guard wanted.contains(value), let numbers = view.realNumbers else { return }
        expected[value] = (view.shape, numbers)
      })
    var comparisons = comparisons
    _ = try measured.run(
      inputs,
      observing: { (value, view) throws(QMError) in
        guard let name = names[value], let number = referenceNumbers[name],
          let (shape, numbers) = expected[number], shape == view.shape,
          let found = view.realNumbers
        else { return }
        comparisons[value, default: Comparison()]
          .add(numbers, found, rowLength: shape.last ?? 1)
      })
    self.comparisons = comparisons
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
        comparison: comparison)
    }
  }
}

extension ValueView {
  /// The elements in float32: floats as they are, codes with a fixed scale dequantized; nil for
  /// anything else.
  var realNumbers: [Float]? {
    switch (elementType, quantization) {
    case (.float32, .none): Array(elements(as: Float.self))
    case (.int8, .fixed(let scale, let zeroPoint)):
      elements(as: Int8.self).map { scale * Float(Int32($0) - zeroPoint) }
    case (.int16, .fixed(let scale, let zeroPoint)):
      elements(as: Int16.self).map { scale * Float(Int32($0) - zeroPoint) }
    default: nil
    }
  }
}

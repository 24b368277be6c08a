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
  }

  private let reference: Session
  private let measured: Session
  private let program: Program
  /// The name of each value that both programs have, by its index in the measured program.
  private let names: [Int: String]
  /// The index of each value in the reference program, by its name.
  private let referenceIndices: [String: Int]
  private var comparisons: [Int: Comparison] = [:]

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
    var comparisons = comparisons
    _ = try measured.run(
      inputs,
      observing: { (value, view) throws(QMError) in
        guard let name = names[value], let index = referenceIndices[name],
          let (shape, numbers) = expected[index], shape == view.shape,
          let found = view.dequantized
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
}

import QMTensor

/// The rows of a table as samples of a network of one input: the columns that are chosen fill the
/// input, whose batch is one row.
///
/// The numbers are in memory, 4 bytes each; the file is read once. A column with the name of an output,
/// or of labels, holds their expected values: int64 `[1]`, as of classes, if all are whole numbers, else
/// float32 `[1, 1]`.
public struct CSVSamples: SampleSource {
  private let path: String
  private let table: CSVTable
  private let input: SampleInput
  /// Behind the columns of the input, in this order.
  private let outputs: [String]
  /// Whether all values of the output are whole numbers.
  private let areWhole: [Bool]

  /// Reads the table.
  /// - Parameters:
  ///   - input: the only input of the network.
  ///   - outputs: names of the outputs whose expected values to read, where the table has such columns.
  /// - Throws: as ``CSVTable``.
  public init(
    path: String, input: SampleInput, outputs: [String], header: CSVTable.Header = .auto,
    columns: String? = nil, limits: MediaLimits = .standard
  ) throws(QMError) {
    table = try CSVTable(
      path: path, header: header, columns: columns, others: outputs, limits: limits)
    self.path = path
    self.input = input
    let names = table.names
    self.outputs = outputs.filter { names?.contains($0) == true }
    let (width, count) = (table.columns.count, self.outputs.count)
    areWhole = table.numbers.withElements(as: Float.self) { numbers in
      (width - count..<width).map { column in
        stride(from: column, to: numbers.count, by: width).allSatisfy {
          Int64(exactly: numbers[$0]) != nil
        }
      }
    }
  }

  /// Number of rows.
  public var count: Int { table.rowCount }

  /// The index of the row, from 0, padded with zeros to the width of the last index, at least 4 digits.
  public func name(of index: Int) -> String {
    let digits = String(index)
    return String(repeating: "0", count: max(0, max(4, String(count - 1).count) - digits.count))
      + digits
  }

  /// The input of one row.
  /// - Throws: `invalidInput` if the columns do not fill the input.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    let width = table.columns.count - outputs.count
    let rest = input.type.map { $0.shape.axes.dropFirst().map(\.extent) } ?? []
    let extents = rest.compactMap(\.self)
    let fills = extents.count == rest.count && Shape.elementCount(of: extents) == width
    let row = try self.row(index, 0..<width)
    return try within(.file(path)) { () throws(QMError) in
      try within(.sample(name(of: index))) { () throws(QMError) in
        let shaped = fills && !extents.isEmpty ? try row.reshaped([1] + extents) : row
        return [input.name: try input.tensor(from: shaped)]
      }
    }
  }

  /// The expected outputs of one row, as far as the table has columns of their names.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    var expected: [String: Tensor] = [:]
    let first = table.columns.count - outputs.count
    for (place, output) in outputs.enumerated() {
      let value = try row(index, first + place..<first + place + 1)
      expected[output] =
        try areWhole[place] ? value.converted(to: .int64) : value.reshaped([1, 1])
    }
    return expected
  }

  private func row(_ index: Int, _ columns: Range<Int>) throws(QMError) -> Tensor {
    try Tensor(
      .float32, [columns.count], buffer: table.numbers.buffer,
      byteOffset: (index * table.columns.count + columns.lowerBound)
        * ElementType.float32.byteCount)
  }
}

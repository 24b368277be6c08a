import QMOperations
import QMTensor

extension NodeReader {
  /// Columns of a row that Unique compares, each with a sort.
  private static let mostColumns = 256

  /// Unique: the different elements of a value, or its different slices along an axis. They are sorted
  /// column by column, so that equal ones are neighbours; the run finds how many there are.
  func unique() throws(QMError) {
    var input = try raw(0)
    var keys = try ordered(0)
    var axis = 0
    if let given = try integer("axis") {
      let rank = shape(input).rank
      axis = try self.axis(given, rank: rank)
      let others = (0..<rank).filter { $0 != axis }
      let extents = others.map { shape(input)[$0].extent }
      guard let count = Shape.elementCount(of: extents.map { $0 ?? .max }),
        (1...Self.mostColumns).contains(count)
      else {
        throw .unsupported(
          "slices of \(shape(input)) along axis \(axis); expected 1 to \(Self.mostColumns) elements in each",
          remedies: .cutBefore)
      }
      // 0 would be read as the extent of the input.
      let rows = shape(input)[axis].extent ?? -1
      keys = try reshaped(transposed(keys, [axis] + others), [rows, count])
    } else {
      input = try reshaped(input, [-1])
      keys = try reshaped(keys, [-1, 1])
    }
    let columns = try (0..<(shape(keys)[1].extent ?? 1)).map { (column) throws(QMError) in
      try call(
        "Gather", keys, addConstant(Tensor([], [Int64(column)]), "column"),
        with: ["axis": .integer(1)])
    }
    let found = try groups(of: columns)
    let isSorted = try flag("sorted", default: true)
    let result = isSorted ? found : try inOrderOfAppearance(found)
    try finish([
      call("Gather", input, result.firsts, with: ["axis": .integer(Int64(axis))]), result.firsts,
      result.inverse, result.counts,
    ])
  }

  /// Groups of equal rows.
  private struct Groups {
    /// The first row of each group.
    let firsts: Value
    /// The group of each row.
    let inverse: Value
    /// The number of rows of each group.
    let counts: Value
  }

  /// The groups of rows, sorted by their first columns, then the second, ….
  /// - Parameter columns: one value per column, with an element for each row.
  private func groups(of columns: [Value]) throws(QMError) -> Groups {
    guard let first = columns.last else { throw .malformed("rows without columns") }
    // Stable sorts from the last column to the first.
    var order = try sortedPlaces(of: first)
    for column in columns.dropLast().reversed() {
      order = try call("Gather", order, sortedPlaces(of: call("Gather", column, order)))
    }
    let zero = addConstant(try Tensor([], [Int64(0)]), "zero")
    let one = addConstant(try Tensor([], [Int64(1)]), "one")
    let count = try call("Squeeze", call("Shape", order), integers([0]))
    let places = try call("Range", zero, count, one)
    let before = try call("Max", [call("Sub", places, one), zero], outputs: 1)[0]
    var isFirst = try call("Equal", places, zero)
    for column in columns {
      let sorted = try call("Gather", column, order)
      isFirst = try call(
        "Or", isFirst, call("Not", call("Equal", sorted, call("Gather", sorted, before))))
    }
    let starts = try reshaped(call("NonZero", isFirst), [-1])
    let number = try append(.cast(Cast(to: .int64)), [isFirst], as: .int64, "isFirst")
    let group = try call("Sub", call("CumSum", number, zero), one)
    let ends = try call(
      "Concat",
      [
        sliced(starts, axis: 0, from: 1, to: Int(Int32.max)),
        call("Unsqueeze", count, integers([0])),
      ], ["axis": .integer(0)], outputs: 1)[0]
    return Groups(
      firsts: try call("Gather", order, starts),
      inverse: try call("ScatterElements", order, order, group),
      counts: try call("Sub", ends, starts))
  }

  /// The same groups, sorted by their first rows.
  private func inOrderOfAppearance(_ groups: Groups) throws(QMError) -> Groups {
    let order = try sortedPlaces(of: groups.firsts)
    // The places that sort a permutation are its inverse.
    return Groups(
      firsts: try call("Gather", groups.firsts, order),
      inverse: try call("Gather", sortedPlaces(of: order), groups.inverse),
      counts: try call("Gather", groups.counts, order))
  }

  /// The places of the elements along the only axis, from the least to the largest; equal ones stay
  /// in their order.
  private func sortedPlaces(of value: Value) throws(QMError) -> Value {
    try call(
      "TopK", [value, call("Shape", value)], ["largest": .integer(0)], outputs: 2)[1]
  }
}

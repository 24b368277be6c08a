import QMOperations
import QMTensor

extension NodeReader {
  /// Rows of the largest matrix; each is a step of the elimination.
  private static let mostRows = 32

  /// Det: the determinant of each matrix, by elimination with the largest pivot of each column.
  func determinant() throws(QMError) {
    let input = try float(0)
    let rank = shape(input).rank
    guard rank >= 2, shape(input)[rank - 1] == shape(input)[rank - 2],
      let size = shape(input)[rank - 1].extent, (1...Self.mostRows).contains(size)
    else {
      throw .unsupported(
        "matrices \(shape(input)); expected square ones with a fixed extent up to \(Self.mostRows)",
        remedies: .cutBefore)
    }
    let extents = try call("Shape", input, with: ["end": .integer(-2)])
    var matrix = try reshaped(input, [-1, size, size])
    var product: Value?
    for rows in stride(from: size, to: 1, by: -1) {
      let column = try sliced(matrix, axis: 2, from: 0, to: 1)
      let place = try reshaped(
        call("ArgMax", call("Abs", column), with: ["axis": .integer(1)]), [-1, 1])
      let pivotRow = try call(
        "GatherND", matrix, call("Unsqueeze", place, integers([-1])),
        with: ["batch_dims": .integer(1)])
      let pivot = try sliced(pivotRow, axis: 2, from: 0, to: 1)
      // The rows without the pivot's. Taking it out changes the sign if its place is odd.
      let places = addConstant(
        try Tensor([1, rows - 1], (0..<rows - 1).map { Int64($0) }), "places")
      let isAfter = try append(
        .cast(Cast(to: .int64)), [call("GreaterOrEqual", places, place)], as: .int64, "isAfter")
      let others = try call(
        "GatherND", matrix,
        call("Unsqueeze", call("Add", places, isAfter), integers([-1])),
        with: ["batch_dims": .integer(1)])
      let two = addConstant(try Tensor([], [Int64(2)]), "two")
      let isOdd = try append(
        .cast(Cast(to: .bool)), [call("Mod", place, two)], as: .bool, "isOdd")
      let factor = try call(
        "Where", call("Unsqueeze", isOdd, integers([-1])), call("Neg", pivot), pivot)
      product =
        try product.map { (before) throws(QMError) in try call("Mul", before, factor) }
        ?? factor
      // Without a pivot the column is 0, and with it the determinant.
      let zero = try number(0, like: pivot)
      let divisor = try call(
        "Where", call("Equal", pivot, zero), number(1, like: pivot), pivot)
      let factors = try call("Div", sliced(others, axis: 2, from: 0, to: 1), divisor)
      matrix = try call(
        "Sub", sliced(others, axis: 2, from: 1, to: rows),
        call("Mul", factors, sliced(pivotRow, axis: 2, from: 1, to: rows)))
    }
    let result = try product.map { (before) throws(QMError) in try call("Mul", before, matrix) }
    try finish(call("Reshape", [result ?? matrix, extents], outputs: 1))
  }
}

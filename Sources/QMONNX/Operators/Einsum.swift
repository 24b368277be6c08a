import QMOperations
import QMTensor

extension NodeReader {
  /// Einsum. A sum of products becomes a batched matrix product, with transpositions and reshapes before
  /// and after it; more than two operands are joined from left to right.
  func einsum() throws(QMError) {
    let equation = try text("equation", default: "").filter { $0 != " " }
    let sides = equation.split(separator: ">", maxSplits: 1, omittingEmptySubsequences: false)
    let left = sides[0].filter { $0 != "-" }
    let parts = left.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == node.inputs.count else {
      throw .malformed("'\(equation.abbreviated)' does not fit \(node.inputs.count) inputs")
    }
    var operands: [Value] = []
    var terms: [[Character]] = []
    var rest: [Character] = []
    for (index, part) in parts.enumerated() {
      let value = try float(index)
      let term = try letters(part, rank: shape(value).rank, equation)
      operands.append(value)
      terms.append(term)
      if rest.count < term.filter(isRest).count { rest = term.filter(isRest) }
    }
    try requireSameType(operands[0], operands.last)
    let all = terms.joined()
    var output =
      rest
      + Set(all).filter { letter in
        !isRest(letter) && all.filter { $0 == letter }.count == 1
      }.sorted()
    if sides.count == 2 {
      output = try letters(String(sides[1]), rest: rest, equation)
    }
    guard Set(output).count == output.count, output.allSatisfy(all.contains) else {
      throw .malformed(
        "'\(equation.abbreviated)' has an output with a repeated letter or one that no input has")
    }
    for index in operands.indices {
      try takeDiagonals(&operands[index], &terms[index])
    }
    guard operands.count > 1 else { return try finish([single(operands[0], terms[0], output)]) }
    var (result, own) = (operands[0], terms[0])
    for index in operands.indices.dropFirst() {
      let later = terms[(index + 1)...].joined()
      let target =
        index + 1 == operands.count
        ? output
        : (own + terms[index].filter { !own.contains($0) }).filter {
          output.contains($0) || later.contains($0)
        }
      result = try pair([result, operands[index]], [own, terms[index]], target)
      own = target
    }
    try finish([result])
  }

  /// The letters of a term, with one for each axis that an ellipsis stands for. These are counted from
  /// the last axis, so that equal ones broadcast.
  private func letters(
    _ term: String, rank: Int, _ equation: String
  ) throws(QMError) -> [Character] {
    let count = rank - term.filter(\.isLetter).count
    guard count >= 0, count == 0 || term.contains("..."), count <= 64 else {
      throw .malformed("'\(equation.abbreviated)' has other letters than an input of \(rank) axes")
    }
    return try letters(
      term, rest: (0..<count).reversed().compactMap(restLetter), equation)
  }

  private func letters(
    _ term: String, rest: [Character], _ equation: String
  ) throws(QMError) -> [Character] {
    guard let start = term.firstIndex(of: ".") else {
      guard term.allSatisfy(\.isLetter) else {
        throw .malformed("'\(equation.abbreviated)'; expected letters and ellipses")
      }
      return Array(term)
    }
    let end = term.index(start, offsetBy: 3, limitedBy: term.endIndex) ?? term.endIndex
    let others = term[..<start] + term[end...]
    guard term[start..<end] == "...", others.allSatisfy(\.isLetter) else {
      throw .malformed("'\(equation.abbreviated)'; expected letters and one ellipsis a term")
    }
    return Array(term[..<start]) + rest + Array(term[end...])
  }

  /// A letter for the axis at a place counted from the last one of an ellipsis; none that a file has.
  private func restLetter(_ place: Int) -> Character? {
    Unicode.Scalar(UInt32(0xE000 + place)).map(Character.init)
  }

  private func isRest(_ letter: Character) -> Bool { !letter.isLetter }

  /// Keeps of each pair of axes of one letter the elements at equal places: the others become 0, and
  /// the second axis is summed.
  private func takeDiagonals(_ value: inout Value, _ term: inout [Character]) throws(QMError) {
    while let second = term.indices.first(where: { term[..<$0].contains(term[$0]) }),
      let first = term.firstIndex(of: term[second])
    {
      guard let extent = shape(value)[first].extent, shape(value)[second].extent == extent,
        extent <= 4096
      else {
        throw .unsupported(
          "a diagonal of \(shape(value)); expected fixed and equal extents up to 4096",
          remedies: .cutBefore)
      }
      var shape = [Int](repeating: 1, count: term.count)
      (shape[first], shape[second]) = (extent, extent)
      let mask = (0..<extent * extent).map { $0 % (extent + 1) == 0 }
      let isDiagonal = addConstant(try Tensor(shape, mask), "diagonal")
      let kept = try call("Where", isDiagonal, value, number(0, like: value))
      value = try call("ReduceSum", kept, integers([second]), with: ["keepdims": .integer(0)])
      term.remove(at: second)
    }
  }

  /// The value summed over the letters that the output does not have, its axes in the output's
  /// order.
  private func single(
    _ value: Value, _ term: [Character], _ output: [Character]
  ) throws(QMError) -> Value {
    let summed = term.indices.filter { !output.contains(term[$0]) }
    var value = value
    if !summed.isEmpty {
      value = try append(
        .reduction(Reduction(.sum, axes: summed, keepsAxes: false)), [value], as: value.type, "sum")
    }
    return try transposed(value, term.filter(output.contains), to: output, "result")
  }

  private func transposed(
    _ value: Value, _ from: [Character], to target: [Character], _ name: String
  ) throws(QMError) -> Value {
    if from == target { return value }
    let permutation = target.compactMap { from.firstIndex(of: $0) }
    return try append(
      .transpose(Transpose(permutation: permutation)), [value], as: value.type, name)
  }

  /// The letters of two operands by their role in a matrix product.
  private struct Letters {
    /// In both operands and the output.
    let batch: [Character]
    /// In both operands, not in the output.
    let summed: [Character]
    /// In the left operand and the output.
    let rows: [Character]
    /// In the right operand and the output.
    let columns: [Character]

    init(_ left: [Character], _ right: [Character], _ output: [Character]) {
      let shared = left.filter(right.contains)
      batch = output.filter(shared.contains)
      summed = shared.filter { !output.contains($0) }
      rows = output.filter { left.contains($0) && !shared.contains($0) }
      columns = output.filter { right.contains($0) && !shared.contains($0) }
    }
  }

  private func pair(
    _ operands: [Value], _ terms: [[Character]], _ output: [Character]
  ) throws(QMError) -> Value {
    // Letters that only one operand has are summed first.
    var (values, own) = (operands, terms)
    for (index, other) in [(0, terms[1]), (1, terms[0])] {
      let kept = own[index].filter { other.contains($0) || output.contains($0) }
      values[index] = try single(values[index], own[index], kept)
      own[index] = kept
    }
    // Constant weights must be the right operand.
    if constant(values[0]) != nil {
      values.swapAt(0, 1)
      own.swapAt(0, 1)
    }
    let letters = Letters(own[0], own[1], output)
    if letters.summed.isEmpty { return try outerProduct(values, own, output) }
    try requireFinite(values[1], "weights")
    if let weights = constant(values[1])?.shape, !letters.batch.isEmpty,
      (1...3).contains(letters.rows.count),
      zip(own[1], weights).allSatisfy({ letter, extent in
        // A dynamic axis must have the extent of the weights; otherwise the run is an error.
        own[0].firstIndex(of: letter).map { (shape(values[0])[$0].extent ?? extent) == extent }
          ?? true
      })
    {
      return try groupedProduct(values, own, letters, output)
    }
    return try product(values, own, letters, output)
  }

  /// The product without a sum: each operand gets axes of extent 1 for the letters of the other.
  private func outerProduct(
    _ values: [Value], _ terms: [[Character]], _ output: [Character]
  ) throws(QMError) -> Value {
    var operands: [Value] = []
    for (index, name) in ["left", "right"].enumerated() {
      let value = try transposed(
        values[index], terms[index], to: output.filter(terms[index].contains), name)
      operands.append(
        try widened(value, output.indices.filter { !terms[index].contains(output[$0]) }, name))
    }
    return try append(.binary(Binary(.multiply)), operands, as: operands[0].type, "product")
  }

  /// A product with different weights for each index of the batch letters: a grouped convolution
  /// with a window of 1. Each output channel of each group is then a channel of the weights.
  private func groupedProduct(
    _ values: [Value], _ terms: [[Character]], _ letters: Letters, _ output: [Character]
  ) throws(QMError) -> Value {
    let type = values[0].type
    let (batch, summed, rows, columns) = (
      letters.batch, letters.summed, letters.rows, letters.columns
    )
    let right = try transposed(values[1], terms[1], to: batch + columns + summed, "weights")
    var weightShape: [Int] = []
    for axis in shape(right).axes {
      weightShape.append(try known(axis, "an axis of the weights"))
    }
    let groups = weightShape.prefix(batch.count).reduce(1, *)
    let channels = weightShape.dropFirst(batch.count).prefix(columns.count).reduce(1, *)
    let depth = weightShape.suffix(summed.count).reduce(1, *)
    // Row letters after the first become spatial axes; a convolution needs at least one.
    let spatialRank = max(rows.count - 1, 1)

    let left = try transposed(values[0], terms[0], to: rows + batch + summed, "left")
    var input = try reshaped(
      left, [Int](repeating: 0, count: rows.count) + [groups * depth], "merged")
    let front = [0, rows.count] + Array(1..<rows.count)
    input = try append(.transpose(Transpose(permutation: front)), [input], as: type, "channels")
    if rows.count == 1 { input = try widened(input, [2], "input") }
    let weights = try reshaped(
      right, [groups * channels, depth] + [Int](repeating: 1, count: spatialRank), "rows")
    let ones = [Int](repeating: 1, count: spatialRank)
    let zeros = [Int](repeating: 0, count: spatialRank)
    var result = try append(
      .convolution(
        Convolution(
          order: .channelsFirst, strides: ones, dilations: ones,
          padding: .explicit(before: zeros, after: zeros), groups: groups)),
      [input, weights], as: type, "product")
    if rows.count == 1 {
      result = try append(.squeeze(Squeeze(axes: [2])), [result], as: type, "squeezed")
    }
    let back = [0] + Array(2..<rows.count + 1) + [1]
    result = try append(
      .transpose(Transpose(permutation: back)), [result], as: type, "channelsLast")
    result = try reshaped(
      result,
      [Int](repeating: 0, count: rows.count)
        + weightShape.prefix(batch.count + columns.count), "axes")
    return try transposed(result, rows + batch + columns, to: output, "turned")
  }

  /// A matrix product. Several row letters are merged into one axis if a Reshape can split it
  /// again; otherwise all but the last become leading axes, along which the other operand is
  /// broadcast. The same holds for column letters.
  private func product(
    _ values: [Value], _ terms: [[Character]], _ letters: Letters, _ output: [Character]
  ) throws(QMError) -> Value {
    let type = values[0].type
    let (batch, summed) = (letters.batch, letters.summed)
    var extents: [Character: Int] = [:]
    for (value, term) in zip(values, terms) {
      for (axis, letter) in zip(shape(value).axes, term) {
        if let extent = axis.extent { extents[letter] = extent }
      }
    }
    /// The extent of the letters merged into one axis; −1 if one of them is dynamic.
    func extent(_ letters: [Character]) -> Int {
      letters.reduce(1) { product, letter in
        extents[letter].map { product < 0 ? product : product * $0 } ?? -1
      }
    }
    func dynamicCount(_ letters: [Character]) -> Int {
      letters.filter { extents[$0] == nil }.count
    }
    func copies(_ count: Int) -> [Int] { [Int](repeating: 0, count: count) }
    let depth = extent(summed)

    var left = try transposed(values[0], terms[0], to: batch + letters.rows + summed, "left")
    var right = try transposed(values[1], terms[1], to: batch + letters.columns + summed, "right")
    if summed.count > 1 {
      left = try reshaped(left, copies(batch.count + letters.rows.count) + [depth], "leftDepth")
      right = try reshaped(
        right, copies(batch.count + letters.columns.count) + [depth], "rightDepth")
    }

    let mergesColumns =
      letters.columns.count != 1 && dynamicCount(letters.columns) + (depth < 0 ? 1 : 0) <= 1
    var leadingColumns = Array(letters.columns.dropLast())
    if mergesColumns {
      right = try reshaped(
        right, copies(batch.count) + [extent(letters.columns), depth], "columns")
      leadingColumns = []
    }
    // If the right operand has no leading axes, the left one's are free: they count as rows.
    let width = extent(mergesColumns ? letters.columns : letters.columns.suffix(1))
    let isFlat = batch.isEmpty && leadingColumns.isEmpty
    let mergesRows =
      letters.rows.isEmpty
      || letters.rows.count > 1 && !isFlat && leadingColumns.isEmpty
        && dynamicCount(letters.rows) + (depth < 0 ? 1 : 0) <= 1
        && dynamicCount(letters.rows) + (width < 0 ? 1 : 0) <= 1
    var leadingRows = Array(letters.rows.dropLast())
    if mergesRows {
      left = try reshaped(left, copies(batch.count) + [extent(letters.rows), depth], "rows")
      leadingRows = []
    }
    if !isFlat {
      left = try widened(
        left, leadingColumns.indices.map { batch.count + leadingRows.count + $0 }, "left")
      right = try widened(right, leadingRows.indices.map { batch.count + $0 }, "right")
    }
    var result = try append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), [left, right], as: type,
      "product")
    var order = batch + leadingRows + leadingColumns
    if mergesRows {
      result = try reshaped(
        result, copies(order.count) + letters.rows.map { extents[$0] ?? -1 } + [width], "rowAxes")
      order += letters.rows
    } else {
      order += letters.rows.suffix(1)
    }
    if mergesColumns {
      result = try reshaped(
        result, copies(order.count) + letters.columns.map { extents[$0] ?? -1 }, "columnAxes")
      order += letters.columns
    } else {
      order += letters.columns.suffix(1)
    }
    return try transposed(result, order, to: output, "turned")
  }

  /// The value with axes of extent 1 inserted at these positions.
  private func widened(_ value: Value, _ axes: [Int], _ name: String) throws(QMError) -> Value {
    if axes.isEmpty { return value }
    return try append(
      .unsqueeze(Unsqueeze(axes: axes)), [value], as: value.type, "\(name)Widened")
  }

  private func reshaped(
    _ value: Value, _ shape: [Int], _ name: String
  ) throws(QMError) -> Value {
    try append(
      .reshape(Reshape()), [value, addConstant(shape, "\(name)Extents")], as: value.type, name)
  }
}

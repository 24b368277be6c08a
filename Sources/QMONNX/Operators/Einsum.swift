import QMOperations
import QMTensor

extension NodeReader {
  /// Einsum of one or two operands: diagonals apart, every sum of products is a batched product of
  /// matrices between rearrangements.
  func einsum() throws(QMError) {
    let equation = try text("equation", default: "").filter { $0 != " " }
    guard !equation.contains(".") else {
      throw .unsupported("'\(equation.abbreviated)' holds an ellipsis; expected letters")
    }
    let sides = equation.split(separator: ">", maxSplits: 1, omittingEmptySubsequences: false)
    let left = sides[0].filter { $0 != "-" }
    let terms = left.split(separator: ",", omittingEmptySubsequences: false).map(Array.init)
    guard terms.count == node.inputs.count, terms.joined().allSatisfy(\.isLetter) else {
      throw .malformed("'\(equation.abbreviated)' does not fit \(node.inputs.count) inputs")
    }
    let all = terms.joined()
    let output =
      sides.count == 2
      ? Array(sides[1])
      : Set(all).filter { letter in all.filter { $0 == letter }.count == 1 }.sorted()
    guard Set(output).count == output.count, output.allSatisfy(all.contains) else {
      throw .malformed("'\(equation.abbreviated)' has an output that does not follow")
    }
    guard terms.count <= 2, terms.allSatisfy({ Set($0).count == $0.count }) else {
      throw .unsupported("'\(equation.abbreviated)'; expected one or two operands without diagonals")
    }
    var operands: [Value] = []
    for (index, term) in terms.enumerated() {
      let value = try float(index)
      guard shape(value).rank == term.count else {
        throw .malformed("'\(equation.abbreviated)' for input \(index) \(shape(value))")
      }
      operands.append(value)
    }
    try requireSameType(operands[0], operands.last)
    let result =
      terms.count == 1
      ? try single(operands[0], terms[0], output) : try pair(operands, terms, output)
    try finish([result])
  }

  /// The axes that the output has, in its order; the others summed.
  private func single(
    _ value: Value, _ term: [Character], _ output: [Character]
  ) throws(QMError) -> Value {
    let summed = term.indices.filter { !output.contains(term[$0]) }
    var value = value
    if !summed.isEmpty {
      value = try append(
        .reduction(Reduction(.sum, axes: summed, keepsAxes: false)), [value], as: value.type, "sum")
    }
    return try turned(value, term.filter(output.contains), to: output, "result")
  }

  private func turned(
    _ value: Value, _ from: [Character], to target: [Character], _ name: String
  ) throws(QMError) -> Value {
    if from == target { return value }
    let permutation = target.compactMap { from.firstIndex(of: $0) }
    return try append(
      .transpose(Transpose(permutation: permutation)), [value], as: value.type, name)
  }

  private func pair(
    _ operands: [Value], _ terms: [[Character]], _ output: [Character]
  ) throws(QMError) -> Value {
    let type = operands[0].type
    let (a, b) = (terms[0], terms[1])
    // Summed in one operand alone: before all else.
    var values = operands
    var own = terms
    for (index, other) in [(0, b), (1, a)] {
      let kept = own[index].filter { other.contains($0) || output.contains($0) }
      values[index] = try single(values[index], own[index], kept)
      own[index] = kept
    }
    let shared = own[0].filter(own[1].contains)
    let batch = output.filter(shared.contains)
    let summed = shared.filter { !output.contains($0) }
    let rows = output.filter { own[0].contains($0) && !shared.contains($0) }
    let columns = output.filter { own[1].contains($0) && !shared.contains($0) }
    var extents: [Character: Shape.Axis] = [:]
    for index in 0..<2 {
      for (place, letter) in own[index].enumerated() {
        let axis = shape(values[index])[place]
        if let known = extents[letter], known.extent != nil { continue }
        extents[letter] = axis
      }
    }
    let left = try turned(values[0], own[0], to: batch + rows + summed, "left")
    let right = try turned(values[1], own[1], to: batch + summed + columns, "right")
    let matrices = [
      try joined(left, [batch.count, rows.count, summed.count], "leftMatrix"),
      try joined(right, [batch.count, summed.count, columns.count], "rightMatrix"),
    ]
    let product = try append(
      .matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)), matrices, as: type, "product")
    // Rows and columns as the axes they were.
    var target: [Int] = batch.indices.map { _ in 0 }
    for letter in rows + columns { target.append(extents[letter]?.extent ?? -1) }
    guard target.filter({ $0 == -1 }).count <= 1 else {
      throw .unsupported("several free axes beside a sum; expected at most one")
    }
    var result = product
    if rows.count != 1 || columns.count != 1 {
      result = try append(
        .reshape(Reshape()), [product, addConstant(target, "extents")], as: type, "axes")
    }
    return try turned(result, batch + rows + columns, to: output, "turned")
  }

  /// Groups of axes as one each.
  private func joined(_ value: Value, _ counts: [Int], _ name: String) throws(QMError) -> Value {
    if counts[1] == 1, counts[2] == 1 { return value }
    var extents = [Int](repeating: 0, count: counts[0])
    var place = counts[0]
    for count in counts[1...] {
      var product: Int? = 1
      for axis in shape(value).axes[place..<(place + count)] {
        product = product.flatMap { product in axis.extent.map { $0 * product } }
      }
      extents.append(product ?? -1)
      place += count
    }
    guard extents.filter({ $0 == -1 }).count <= 1 else {
      throw .unsupported("several free axes beside a sum; expected at most one")
    }
    return try append(
      .reshape(Reshape()), [value, addConstant(extents, name + "Extents")], as: value.type, name)
  }
}

import QMOperations
import QMTensor

extension NodeReader {
  /// MatMul. A constant right matrix is transposed, so that each row is an output channel. A
  /// constant left matrix becomes the right operand of the transposed product, (A · B)ᵀ = Bᵀ · Aᵀ.
  func matrixMultiply() throws(QMError) {
    var left = try float(0)
    var right = try float(1)
    try requireSameType(left, right)
    let type = left.type
    left = try matrix(left, beside: right)
    right = try matrix(right, beside: left)
    let leftRank = shape(left).rank
    let rightRank = shape(right).rank
    guard leftRank >= 1, rightRank >= 1 else {
      throw .malformed(
        "operands \(shape(left)) and \(shape(right)); expected at least one axis each")
    }
    try requireFinite(left, "weights")
    try requireFinite(right, "weights")
    if leftRank == 2, constant(left) != nil, rightRank >= 2, constant(right) == nil {
      let transpose = Operation.transpose(
        Transpose(permutation: Array(0..<rightRank - 2) + [rightRank - 1, rightRank - 2]))
      let columns = try append(transpose, [right], as: type, "columns")
      let product = try append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), [columns, left], as: type,
        "product")
      return try finish(transpose, [product], as: type)
    }
    if leftRank == 1 {
      left = try append(.unsqueeze(Unsqueeze(axes: [0])), [left], as: type, "row")
    }
    var layout = RightLayout.depthFirst
    if rightRank == 1 {
      right = try append(.unsqueeze(Unsqueeze(axes: [0])), [right], as: type, "column")
      layout = .channelsFirst
    } else if rightRank == 2, constant(right) != nil {
      right = try append(
        .transpose(Transpose(permutation: [1, 0])), [right], as: type, "transposed")
      layout = .channelsFirst
    }
    let operation = Operation.matrixMultiply(MatrixMultiply(rightLayout: layout))
    guard leftRank == 1 || rightRank == 1 else {
      return try finish(operation, [left, right], as: type)
    }
    let product = try append(operation, [left, right], as: type, "product")
    let rank = shape(product).rank
    let dropped = (leftRank == 1 ? [rank - 2] : []) + (rightRank == 1 ? [rank - 1] : [])
    try finish(.squeeze(Squeeze(axes: dropped)), [product], as: type)
  }

  /// A constant matrix without leading axes of extent 1; they do not change the shape of the
  /// product, because the other operand has at least as many axes.
  private func matrix(_ value: Value, beside other: Value) throws(QMError) -> Value {
    guard constant(value) != nil, let extents = shape(value).extents, extents.count > 2,
      extents.count <= shape(other).rank, extents.dropLast(2).allSatisfy({ $0 == 1 })
    else { return value }
    return try append(
      .squeeze(Squeeze(axes: Array(0..<extents.count - 2))), [value], as: value.type, "matrix")
  }

  /// Gemm: `alpha · A′ · B′ + beta · C`.
  func gemm() throws(QMError) {
    var left = try float(0)
    var right = try float(1)
    var addend = try optionalFloat(2)
    try requireSameType(left, right, addend)
    let type = left.type
    guard shape(left).rank == 2, shape(right).rank == 2 else {
      throw .malformed("operands \(shape(left)) and \(shape(right)); expected two axes each")
    }
    try requireFinite(right, "weights")
    try requireFinite(addend, "bias")
    let alpha = try number("alpha", default: 1)
    let beta = try number("beta", default: 1)
    let transpose = Operation.transpose(Transpose(permutation: [1, 0]))
    if try flag("transA", default: false) { left = try append(transpose, [left], as: type, "A") }
    var layout = RightLayout.channelsFirst
    if try !flag("transB", default: false) {
      if constant(right) != nil {
        right = try append(transpose, [right], as: type, "transposed")
      } else {
        layout = .depthFirst
      }
    }
    // The scaling of constant weights is folded.
    if alpha != 1 { right = try scaled(right, by: alpha, "alpha") }
    if beta == 0 { addend = nil }
    if beta != 1, let value = addend { addend = try scaled(value, by: beta, "beta") }

    let columns = shape(right)[layout == .channelsFirst ? 0 : 1]
    let operation = Operation.matrixMultiply(MatrixMultiply(rightLayout: layout))
    guard let addend else { return try finish(operation, [left, right], as: type) }
    try requireAddend(addend, rows: shape(left)[0], columns: columns)
    if let bias = try bias(addend, columns: columns) {
      return try finish(operation, [left, right, bias], as: type)
    }
    let product = try append(operation, [left, right], as: type, "product")
    try finish(.binary(Binary(.add)), [product, addend], as: type)
  }

  private func scaled(_ value: Value, by factor: Float, _ name: String) throws(QMError) -> Value {
    try append(
      .unary(Unary(.affine(scale: factor, offset: 0))), [value], as: value.type, name)
  }

  /// - Throws: `malformed` unless C broadcasts to the shape of the product.
  private func requireAddend(
    _ addend: Value, rows: Shape.Axis, columns: Shape.Axis
  ) throws(QMError) {
    let axes = shape(addend).axes
    func fits(_ axis: Shape.Axis?, _ target: Shape.Axis) -> Bool {
      guard let extent = axis?.extent, let limit = target.extent else { return true }
      return extent == 1 || extent == limit
    }
    guard axes.count <= 2, fits(axes.last, columns), fits(axes.count == 2 ? axes[0] : nil, rows)
    else {
      throw .malformed("C \(shape(addend)) does not broadcast to the product [\(rows), \(columns)]")
    }
  }

  /// A constant C as a bias with one number per column; nil if C is computed or varies along rows.
  private func bias(_ addend: Value, columns: Shape.Axis) throws(QMError) -> Value? {
    guard let tensor = constant(addend), let count = columns.extent else { return nil }
    if tensor.shape == [count] { return addend }
    let flat = try addConstant([tensor.elementCount], "extents")
    if tensor.elementCount == 1 {
      let single = try append(.reshape(Reshape()), [addend, flat], as: addend.type, "scalar")
      return try append(
        .expand(Expand()), [single, addConstant([count], "columns")], as: addend.type, "bias")
    }
    guard tensor.shape == [1, count] else { return nil }
    return try append(.reshape(Reshape()), [addend, flat], as: addend.type, "bias")
  }
}

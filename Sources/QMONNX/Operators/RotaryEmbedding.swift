import QMOperations
import QMTensor

extension NodeReader {
  /// RotaryEmbedding: rotates pairs of numbers by an angle that depends on their position.
  func rotaryEmbedding() throws(QMError) {
    let input = try float(0)
    let type = input.type
    let heads = try positionsThenHeads(input)
    let depth = try known(shape(heads)[3], "the size of a head")
    let given = try integer("rotary_embedding_dim") ?? 0
    let count = given == 0 ? depth : given
    guard count > 0, count <= depth, count % 2 == 0 else {
      throw .malformed(
        "rotary_embedding_dim \(count); expected an even number up to \(depth), the size of a head")
    }
    let isInterleaved = try flag("interleaved", default: false)
    let (first, second) =
      isInterleaved
      ? (
        try part(of: heads, 0, count, step: 2, "first"),
        try part(of: heads, 1, count, step: 2, "second")
      )
      : (
        try part(of: heads, 0, count / 2, "first"), try part(of: heads, count / 2, count, "second")
      )
    let (real, imaginary) = try rotated(first, second)
    var result: Value
    if isInterleaved {
      let target = [0, 0, try known(shape(heads)[2], "the number of heads"), count]
      result = try interleaved(real, imaginary, shape: target)
    } else {
      result = try append(
        .concatenate(Concatenate(axis: 3)), [real, imaginary], as: type, "turned")
    }
    if count < depth {
      result = try append(
        .concatenate(Concatenate(axis: 3)), [result, part(of: heads, count, depth, "rest")],
        as: type, "whole")
    }
    if shape(input).rank == 4 {
      return try finish(.transpose(Transpose(permutation: [0, 2, 1, 3])), [result], as: type)
    }
    let width = try known(shape(input)[2], "the last axis")
    try finish(.reshape(Reshape()), [result, addConstant([0, 0, width], "extents")], as: type)
  }

  /// `[N, heads, L, D]` or `[N, L, heads · D]` as `[N, L, heads, D]`.
  private func positionsThenHeads(_ input: Value) throws(QMError) -> Value {
    if shape(input).rank == 4 {
      return try append(
        .transpose(Transpose(permutation: [0, 2, 1, 3])), [input], as: input.type, "places")
    }
    guard shape(input).rank == 3, let width = shape(input)[2].extent,
      let count = try integer("num_heads"), count > 0, width % count == 0
    else {
      throw .malformed(
        "attribute 'num_heads' is missing or does not divide the last axis of input \(shape(input))"
      )
    }
    return try append(
      .reshape(Reshape()), [input, addConstant([0, 0, count, width / count], "split")],
      as: input.type, "heads")
  }

  /// A range of elements along the last axis of `[N, L, heads, D]`.
  private func part(
    of value: Value, _ start: Int, _ end: Int, step: Int = 1, _ name: String
  ) throws(QMError) -> Value {
    try append(
      .slice(Slice()),
      [
        value, addConstant([start], name + "Start"), addConstant([end], name + "End"),
        addConstant([3], name + "Axis"), addConstant([step], name + "Step"),
      ], as: value.type, name)
  }

  /// The cosines or sines of the angles of each position, `[N, L, 1, D/2]`.
  private func table(
    _ input: Int, _ name: String, as type: ElementType
  ) throws(QMError) -> Value {
    var table = try float(input)
    if let places = try optional(3) {
      table = try append(.gather(Gather(axis: 0)), [table, places], as: type, name + "Rows")
    }
    guard shape(table).rank == 3 else {
      throw .malformed("\(name) cache \(shape(table)); expected [batch, sequence, half a head]")
    }
    return try append(.unsqueeze(Unsqueeze(axes: [2])), [table], as: type, name)
  }

  /// The complex product `(first + i·second) · (cosine + i·sine)`.
  private func rotated(
    _ first: Value, _ second: Value
  ) throws(QMError) -> (real: Value, imaginary: Value) {
    let (cosine, sine) = (
      try table(1, "cosine", as: first.type), try table(2, "sine", as: first.type)
    )
    func binary(
      _ function: BinaryFunction, _ left: Value, _ right: Value, _ name: String
    ) throws(QMError) -> Value {
      try append(.binary(Binary(function)), [left, right], as: first.type, name)
    }
    let real = try binary(
      .subtract, binary(.multiply, cosine, first, "cosFirst"),
      binary(.multiply, sine, second, "sinSecond"), "real")
    let imaginary = try binary(
      .add, binary(.multiply, sine, first, "sinFirst"),
      binary(.multiply, cosine, second, "cosSecond"), "imaginary")
    return (real, imaginary)
  }

  /// Real and imaginary parts in alternation along the last axis.
  private func interleaved(
    _ real: Value, _ imaginary: Value, shape: [Int]
  ) throws(QMError) -> Value {
    let type = real.type
    let columns = [
      try append(.unsqueeze(Unsqueeze(axes: [4])), [real], as: type, "realColumn"),
      try append(.unsqueeze(Unsqueeze(axes: [4])), [imaginary], as: type, "imaginaryColumn"),
    ]
    let pairs = try append(.concatenate(Concatenate(axis: 4)), columns, as: type, "pairs")
    return try append(
      .reshape(Reshape()), [pairs, addConstant(shape, "flat")], as: type, "turned")
  }
}

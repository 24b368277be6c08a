import QMOperations
import QMTensor

extension NodeReader {
  /// Input `index`, converted to float32, int32 or int64, on which ordering operations work.
  func ordered(_ index: Int) throws(QMError) -> Value {
    let value = try input(index)
    guard let wide = widerType(of: value.type) else { return value }
    return try append(.cast(Cast(to: wide)), [value], as: wide, "\(wide)")
  }

  /// ArgMax and ArgMin.
  func argMinMax(_ kind: ArgMinMax.Kind) throws(QMError) {
    let input = try ordered(0)
    let axis = try axis(integer("axis") ?? 0, rank: shape(input).rank)
    try finish(
      .argMinMax(
        ArgMinMax(
          kind, axis: axis, keepsAxis: flag("keepdims", default: true),
          takesLast: flag("select_last_index", default: false))),
      [input], as: .int64)
  }

  /// TopK: the number of elements is an attribute before opset 10, an input since.
  func topK() throws(QMError) {
    let given = try input(0)
    let input = try ordered(0)
    let axis = try axis(integer("axis") ?? -1, rank: shape(input).rank)
    let count: Value
    if opset < 10 {
      guard let number = try integer("k") else { throw .malformed("attribute 'k' is missing") }
      count = try addConstant([number], "k")
    } else {
      guard let number = try int64(1) else { throw .malformed("input 1 is missing") }
      count = number
    }
    let places = try builder.construction.append(
      .topK(TopK(axis: axis, takesLargest: flag("largest", default: true))), name: node.label,
      [input, count], outputNames: input == given ? node.outputs : [])
    var values = Value(place: places[0], type: input.type)
    if input.type != given.type {
      values = try append(.cast(Cast(to: given.type)), [values], as: given.type, "values")
    }
    try finish([
      Value(place: values.place, type: given.type), Value(place: places[1], type: .int64),
    ])
  }

  func cumulativeSum() throws(QMError) {
    let input = try input(0)
    guard let given = try constantIntegers(1, "axis"), given.count == 1 else {
      throw .malformed("input 1 is not a single axis")
    }
    try finish(
      .cumulativeSum(
        CumulativeSum(
          axis: axis(given[0], rank: shape(input).rank),
          excludesOwn: flag("exclusive", default: false),
          fromEnd: flag("reverse", default: false))),
      [input], as: input.type)
  }

  /// Range, of the scalars start, limit and step.
  func range() throws(QMError) {
    let type = try raw(0).type
    var scalars: [Value] = []
    for index in 0..<3 { scalars.append(try ordered(index)) }
    try requireSameType(scalars[0], scalars[1], scalars[2])
    let operation = Operation.range(RangeOperation())
    guard scalars[0].type != type else { return try finish(operation, scalars, as: type) }
    let wide = try append(operation, scalars, as: scalars[0].type, "range")
    try finish(.cast(Cast(to: type)), [wide], as: type)
  }

  /// Size: the number of elements.
  func size() throws(QMError) {
    let input = try raw(0)
    if let extents = shape(input).extents {
      return try finish([addConstant(Tensor([], [Int64(extents.reduce(1, &*))]), "size")])
    }
    let whole = try append(.shape(ShapeOperation()), [input], as: .int64, "extents")
    try finish(.reduction(Reduction(.product, axes: [0], keepsAxes: false)), [whole], as: .int64)
  }

  func oneHot() throws(QMError) {
    func whole(_ index: Int, _ suffix: String) throws(QMError) -> Value {
      let value = try raw(index)
      return value.type == .int64
        ? value : try append(.cast(Cast(to: .int64)), [value], as: .int64, suffix)
    }
    let indices = try whole(0, "indices")
    let depth = try whole(1, "depth")
    let values = try input(2)
    let axis = try axis(integer("axis") ?? -1, rank: shape(indices).rank + 1)
    try finish(.oneHot(OneHot(axis: axis)), [indices, depth, values], as: values.type)
  }

  func trilu() throws(QMError) {
    let input = try input(0)
    try finish(
      .trilu(Trilu(isUpper: flag("upper", default: true))), [input, int64(1)],
      as: input.type)
  }
}

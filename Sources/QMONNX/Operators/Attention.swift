import QMOperations
import QMTensor

extension NodeReader {
  /// Attention since opset 23, as matrix products and a softmax: `softmax(scale · Q · Kᵀ + mask) ·
  /// V`.
  func attention() throws(QMError) {
    var query = try float(0)
    let type = query.type
    let hasHeads = shape(query).rank == 4
    query = try heads(query, "q_num_heads", "query")
    var key = try heads(float(1), "kv_num_heads", "key")
    var value = try heads(float(2), "kv_num_heads", "value")
    let depth = try known(shape(query)[3], "the size of a head")
    var pastCount: Value?
    if let past = try optionalFloat(4) {
      key = try append(.concatenate(Concatenate(axis: 2)), [past, key], as: type, "presentKey")
      pastCount = try extent(of: past, axis: 2, "past")
    }
    if let past = try optionalFloat(5) {
      value = try append(
        .concatenate(Concatenate(axis: 2)), [past, value], as: type, "presentValue")
    }
    let present = (key, value)
    key = try repeated(key, like: query, "keys")
    value = try repeated(value, like: query, "values")

    let keysTransposed = try append(
      .transpose(Transpose(permutation: [0, 1, 3, 2])), [key], as: type, "keysTurned")
    let product = Operation.matrixMultiply(MatrixMultiply(rightLayout: .depthFirst))
    var scores = try append(product, [query, keysTransposed], as: type, "product")
    let scale = try number("scale") ?? (1 / Float(depth).squareRoot())
    scores = try append(
      .unary(Unary(.affine(scale: scale, offset: 0))), [scores], as: type, "scores")
    let raw = scores
    if let cap = try number("softcap"), cap > 0 {
      scores = try append(
        .unary(Unary(.affine(scale: 1 / cap, offset: 0))), [scores], as: type, "capped")
      scores = try append(.unary(Unary(.tanh)), [scores], as: type, "tanh")
      scores = try append(
        .unary(Unary(.affine(scale: cap, offset: 0))), [scores], as: type, "softcap")
    }
    let mask = try mask(query: query, key: key, pastCount: pastCount)
    var masked = scores
    if let bias = mask.bias {
      masked = try append(.binary(Binary(.add)), [masked, bias], as: type, "biased")
    }
    if let allowed = mask.allowed {
      masked = try append(
        .select(Select()), [allowed, masked, addScalar(-.greatestFiniteMagnitude, "never")],
        as: type, "masked")
    }
    var shares = try append(.softmax(Softmax(.softmax, axis: 3)), [masked], as: type, "softmax")
    if let allowed = mask.allowed, !everyRowHasOne(allowed) {
      // The weights of a query that may attend to no key are 0.
      shares = try append(
        .select(Select()), [allowed, shares, addScalar(0, "none")], as: type, "shares")
    }
    let shown: Value
    switch try integer("qk_matmul_output_mode") ?? 0 {
    case 0: shown = raw
    case 1: shown = scores
    case 2: shown = try biased(scores, mask)
    case 3: shown = shares
    case let mode: throw .malformed("qk_matmul_output_mode \(mode); ONNX defines 0 to 3")
    }
    var result = try append(product, [shares, value], as: type, "mixed")
    if !hasHeads {
      result = try append(
        .transpose(Transpose(permutation: [0, 2, 1, 3])), [result], as: type, "turned")
      let width = try known(shape(result)[2], "the heads") * known(shape(result)[3], "their size")
      result = try append(
        .reshape(Reshape()), [result, addConstant([0, 0, width], "extents")], as: type, "joined")
    }
    try finish([result, present.0, present.1, shown])
  }

  /// The scores with the mask added; −∞ where the query may not attend to the key.
  private func biased(
    _ scores: Value, _ mask: (bias: Value?, allowed: Value?)
  ) throws(QMError) -> Value {
    guard node.outputs.indices.contains(3), builder.isUsed(node.outputs[3]) else { return scores }
    var result = scores
    if let bias = mask.bias {
      result = try append(.binary(Binary(.add)), [result, bias], as: scores.type, "withBias")
    }
    if let allowed = mask.allowed {
      result = try append(
        .select(Select()), [allowed, result, addScalar(-.infinity, "forbidden")], as: scores.type,
        "withMask")
    }
    return result
  }

  /// The extent of an axis.
  /// - Throws: `unsupported` if the axis is dynamic.
  func known(_ axis: Shape.Axis, _ what: String) throws(QMError) -> Int {
    guard let extent = axis.extent else {
      throw .unsupported("\(what) is dynamic; it must be known before the run")
    }
    return extent
  }

  /// `[N, L, heads · D]` as `[N, heads, L, D]`; a value of four axes is returned unchanged.
  private func heads(
    _ value: Value, _ attribute: String, _ name: String
  ) throws(QMError) -> Value {
    switch shape(value).rank {
    case 4: return value
    case 3:
      let width = try known(shape(value)[2], "the last axis of \(name)")
      guard let count = try integer(attribute), count > 0, width % count == 0 else {
        throw .malformed("attribute '\(attribute)' is missing or does not divide \(width)")
      }
      let split = try append(
        .reshape(Reshape()), [value, addConstant([0, 0, count, width / count], name + "Extents")],
        as: value.type, name + "Split")
      return try append(
        .transpose(Transpose(permutation: [0, 2, 1, 3])), [split], as: value.type, name + "Heads")
    default: throw .malformed("\(name) has \(shape(value).rank) axes, expected 3 or 4")
    }
  }

  /// Repeats each head of keys or values for the query heads that share it (grouped-query
  /// attention).
  private func repeated(_ value: Value, like query: Value, _ name: String) throws(QMError) -> Value
  {
    guard let own = shape(value)[1].extent, let wanted = shape(query)[1].extent, own != wanted
    else { return value }
    guard own > 0, wanted % own == 0 else {
      throw .malformed("\(wanted) heads of queries, expected a multiple of the \(own) of \(name)")
    }
    let depth = try known(shape(value)[3], "the size of a head")
    let column = try append(
      .unsqueeze(Unsqueeze(axes: [2])), [value], as: value.type, name + "Column")
    let wide = try append(
      .expand(Expand()), [column, addConstant([1, 1, wanted / own, 1, 1], name + "Times")],
      as: value.type, name + "Wide")
    return try append(
      .reshape(Reshape()), [wide, addConstant([0, wanted, -1, depth], name + "Extents")],
      as: value.type, name + "Repeated")
  }

  /// The extent of an axis as an int64 value of shape `[1]`.
  private func extent(of value: Value, axis: Int, _ name: String) throws(QMError) -> Value {
    if let extent = shape(value)[axis].extent { return try addConstant([extent], name) }
    return try append(.shape(ShapeOperation(start: axis, end: axis + 1)), [value], as: .int64, name)
  }

  /// The number to add to each score, and whether the query may attend to the key; nil if there is
  /// no such mask.
  private func mask(
    query: Value, key: Value, pastCount: Value?
  ) throws(QMError) -> (bias: Value?, allowed: Value?) {
    var bias: Value?
    var allowed: Value?
    if let given = try optional(3) {
      // Exporters write the lowest number of the type in place of −∞.
      let lowest = given.type == .float16 ? Float(-65504) : -.greatestFiniteMagnitude
      let mask = try padded(inFloat32(given), key: key)
      if mask.type == .bool {
        allowed = mask
      } else if let tensor = constant(mask), tensor.elementType == .float32,
        tensor.elements(as: Float.self).allSatisfy({ $0.isFinite && $0 > lowest })
      {
        bias = mask
      } else {
        let least = try addScalar(lowest, "least")
        let finite = try append(
          .comparison(Compare(.greater)), [mask, least], as: .bool, "allowed")
        allowed = finite
        bias = try append(
          .select(Select()), [finite, mask, addScalar(0, "zero")], as: mask.type, "bias")
      }
    }
    if let near = try near(query: query, key: key, pastCount: pastCount) {
      allowed =
        try allowed.map { (mask) throws(QMError) in
          try append(.logic(Logic(.and)), [mask, near], as: .bool, "near")
        } ?? near
    }
    if try flag("is_causal", default: false), !hasInput(6) {
      let extents = try append(
        .concatenate(Concatenate(axis: 0)),
        [
          extent(of: query, axis: 2, "queryCount"), extent(of: key, axis: 2, "keyCount"),
        ], as: .int64, "extents")
      let all = try append(
        .fill(Fill()), [extents, addConstant(Tensor([], [true]), "true")], as: .bool, "all")
      var offset = try addConstant(Tensor([], [Int64(0)]), "offset")
      if let pastCount {
        offset = try append(.squeeze(Squeeze(axes: [0])), [pastCount], as: .int64, "offset")
      }
      let causal = try append(
        .trilu(Trilu(isUpper: false)), [all, offset], as: .bool, "causal")
      if let mask = allowed {
        allowed = try append(.logic(Logic(.and)), [mask, causal], as: .bool, "both")
      } else {
        allowed = causal
      }
    }
    return (bias, allowed)
  }

  /// Whether a key is one of those that are valid in its sample, input `nonpad_kv_seqlen`, and lies in
  /// the window around the query; nil if there is no such bound. The queries are the last of the valid
  /// keys, or follow the past ones.
  private func near(query: Value, key: Value, pastCount: Value?) throws(QMError) -> Value? {
    let left = try integer("left_window_size") ?? -1
    let right = try integer("right_window_size") ?? -1
    let lengths = try int64(6)
    guard left >= 0 || right >= 0 || lengths != nil else { return nil }
    guard max(left, right) <= 1 << 40 else { throw .malformed("a window of \(max(left, right))") }
    let zero = addConstant(try Tensor([], [Int64(0)]), "first")
    let one = addConstant(try Tensor([], [Int64(1)]), "step")
    func positions(_ value: Value, _ name: String) throws(QMError) -> Value {
      let count = try call("Squeeze", extent(of: value, axis: 2, name), integers([0]))
      return try call("Range", zero, count, one)
    }
    let keys = try positions(key, "keys")
    var places = try call("Unsqueeze", positions(query, "queries"), integers([1]))
    var bounds: [Value] = []
    if let lengths {
      let column = try call("Unsqueeze", lengths, integers([1, 2, 3]))
      bounds.append(try call("Less", keys, column))
      let offset = try call("Sub", column, extent(of: query, axis: 2, "queryCount"))
      places = try call("Add", places, offset)
    } else if let pastCount {
      places = try call("Add", places, pastCount)
    }
    func place(_ offset: Int) throws(QMError) -> Value {
      try call("Add", places, addConstant(Tensor([], [Int64(offset)]), "window"))
    }
    if left >= 0 { bounds.append(try call("GreaterOrEqual", keys, place(-left))) }
    if right >= 0 { bounds.append(try call("LessOrEqual", keys, place(right))) }
    if lengths != nil, try flag("is_causal", default: false) {
      bounds.append(try call("LessOrEqual", keys, places))
    }
    var result = bounds[0]
    for bound in bounds.dropFirst() { result = try call("And", result, bound) }
    return result
  }

  /// The mask padded to all keys, if it has fewer: no query may attend to the missing ones. A mask of
  /// one key is padded too, it does not broadcast.
  private func padded(_ mask: Value, key: Value) throws(QMError) -> Value {
    let rank = shape(mask).rank
    guard (1...4).contains(rank) else {
      throw .malformed("the mask has \(rank) axes, expected 1 to 4")
    }
    guard let own = shape(mask)[rank - 1].extent else { return mask }
    let pads: Value
    let none = [Int](repeating: 0, count: 2 * rank - 1)
    if let count = shape(key)[2].extent {
      guard own < count else { return mask }
      pads = try addConstant(none + [count - own], "pads")
    } else {
      guard own == 1 else { return mask }
      let missing = try append(
        .binary(Binary(.subtract)),
        [extent(of: key, axis: 2, "maskedKeys"), addConstant([own], "own")], as: .int64, "missing")
      pads = try append(
        .concatenate(Concatenate(axis: 0)), [addConstant(none, "padsBefore"), missing], as: .int64,
        "pads")
    }
    let filling =
      mask.type == .bool
      ? try addConstant(Tensor([], [false]), "no") : try addScalar(-.infinity, "no")
    return try append(
      .pad(Pad(.constant)), [mask, pads, filling, nil], as: mask.type, "padded")
  }

  /// Whether a constant mask lets every query attend to at least one key.
  private func everyRowHasOne(_ mask: Value) -> Bool {
    guard let tensor = constant(mask), let count = tensor.shape.last, count > 0 else {
      return false
    }
    let elements = tensor.elements(as: Bool.self)
    return stride(from: 0, to: elements.count, by: count).allSatisfy {
      elements[$0..<($0 + count)].contains(true)
    }
  }
}

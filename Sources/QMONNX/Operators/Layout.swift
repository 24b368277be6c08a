import QMGraph
import QMOperations
import QMTensor

extension NodeReader {
  // MARK: Shapes

  func reshape() throws(QMError) {
    let input = try input(0)
    let zeroIsZero = try flag("allowzero", default: false)
    try finish(
      .reshape(Reshape(zeroIsZero: zeroIsZero)), [input, requiredInt64(1)], as: input.type)
  }

  private func requiredInt64(_ index: Int) throws(QMError) -> Value {
    guard let value = try int64(index) else { throw .malformed("input \(index) is missing") }
    return value
  }

  func flatten() throws(QMError) {
    let input = try input(0)
    let rank = shape(input).rank
    let given = try integer("axis") ?? 1
    // ONNX allows axis = rank: all axes are then before it.
    let axis = given == rank ? rank : try self.axis(given, rank: rank)
    try finish(.flatten(Flatten(axis: axis)), [input], as: input.type)
  }

  /// The axes: an attribute before opset 13, an input since.
  private func givenAxes() throws(QMError) -> [Int]? {
    guard opset >= 13 else {
      guard node.inputs.count == 1 else {
        throw .malformed("the axes are an input; before opset 13 an attribute is expected")
      }
      return try integers("axes")
    }
    return try constantIntegers(1, "axes")
  }

  func squeeze() throws(QMError) {
    let input = try input(0)
    let axes = try givenAxes().map { (axes) throws(QMError) in
      try self.axes(axes, rank: shape(input).rank)
    }
    try finish(.squeeze(Squeeze(axes: axes)), [input], as: input.type)
  }

  func unsqueeze() throws(QMError) {
    let input = try input(0)
    guard let given = try givenAxes() else { throw .malformed("the axes are missing") }
    let axes = try axes(given, rank: shape(input).rank + given.count)
    try finish(.unsqueeze(Unsqueeze(axes: axes)), [input], as: input.type)
  }

  func transpose() throws(QMError) {
    let input = try input(0)
    let rank = shape(input).rank
    let permutation = try integers("perm") ?? Array((0..<rank).reversed())
    guard permutation.sorted() == Array(0..<rank) else {
      throw .malformed("perm \(permutation.prefix(8)) is not a permutation of \(rank) axes")
    }
    try finish(.transpose(Transpose(permutation: permutation)), [input], as: input.type)
  }

  /// The shape of a value as an int64 value; a constant if all axes are fixed.
  func shapeValue(of value: Value, _ name: String) throws(QMError) -> Value {
    if let extents = shape(value).extents { return try addConstant(extents, name) }
    return try append(.shape(ShapeOperation()), [value], as: .int64, name)
  }

  func shape() throws(QMError) {
    let input = try raw(0)
    let start = try integer("start") ?? 0
    let end = try integer("end")
    let rank = shape(input).rank
    func clamped(_ bound: Int) -> Int { min(max(bound < 0 ? bound + rank : bound, 0), rank) }
    let range = clamped(start)..<max(clamped(start), clamped(end ?? rank))
    if let extents = Shape(Array(shape(input).axes[range])).extents {
      return try finish([addConstant(extents, "extents")])
    }
    try finish(.shape(ShapeOperation(start: start, end: end)), [input], as: .int64)
  }

  // MARK: Parts

  func concatenate() throws(QMError) {
    let first = try input(0)
    var inputs = [first]
    for index in node.inputs.indices.dropFirst() {
      let next = try input(index)
      try requireSameType(first, next)
      inputs.append(next)
    }
    // Before opset 4 the default is 1.
    guard let given = try integer("axis") ?? (opset < 4 ? 1 : nil) else {
      throw .malformed("attribute 'axis' is missing")
    }
    let axis = try axis(given, rank: shape(first).rank)
    try finish(.concatenate(Concatenate(axis: axis)), inputs, as: first.type)
  }

  /// Split: the sizes are an attribute before opset 13, an input since.
  func split() throws(QMError) {
    let input = try input(0)
    let axis = try axis(integer("axis") ?? 0, rank: shape(input).rank)
    let count = node.outputs.count
    guard count >= 1 else { throw .malformed("it has no outputs") }
    let given = try opset < 13 ? integers("split") : constantIntegers(1, "sizes")
    let sizes: Split.Sizes
    if let given {
      guard given.count == count else {
        throw .malformed("\(given.count) sizes for \(count) outputs")
      }
      sizes = .explicit(given)
    } else {
      let parts = try integer("num_outputs") ?? count
      guard parts == count else { throw .malformed("num_outputs \(parts) for \(count) outputs") }
      if opset < 18, let extent = shape(input)[axis].extent, extent % parts != 0 {
        throw .malformed("an axis of \(extent) elements cannot be split into \(parts) equal parts")
      }
      sizes = .equal(parts: parts)
    }
    try finish(.split(Split(axis: axis, sizes: sizes)), [input], as: input.type)
  }

  /// Slice: the bounds are attributes before opset 10, inputs since.
  func slice() throws(QMError) {
    let input = try input(0)
    var bounds: [Value?]
    if opset < 10 {
      guard let starts = try integers("starts"), let ends = try integers("ends") else {
        throw .malformed("attribute 'starts' or 'ends' is missing")
      }
      bounds = [try addConstant(starts, "starts"), try addConstant(ends, "ends")]
      if let axes = try integers("axes") { bounds.append(try addConstant(axes, "axes")) }
    } else {
      bounds = [
        try requiredInt64(1), try requiredInt64(2), try int64(3), try int64(4),
      ]
    }
    while bounds.count < 4 { bounds.append(nil) }
    if let cuts = try cuts(bounds, of: shape(input)) {
      if cuts[0].isEmpty { return try finish([input]) }
      bounds = []
      for (numbers, name) in zip(cuts, ["starts", "ends", "axes", "steps"]) {
        bounds.append(try addConstant(numbers, name))
      }
    }
    try finish(.slice(Slice()), [input] + bounds, as: input.type)
  }

  /// Starts, ends, axes and steps of the axes that are really cut; nil if one of them is computed.
  private func cuts(_ bounds: [Value?], of shape: Shape) throws(QMError) -> [[Int]]? {
    var numbers: [[PartialIntegers.Element]?] = []
    for bound in bounds {
      guard let bound else {
        numbers.append(nil)
        continue
      }
      guard let partial = builder.construction.partial(of: bound) else { return nil }
      numbers.append(partial.elements)
    }
    guard let starts = numbers[0], let ends = numbers[1], starts.count == ends.count else {
      return nil
    }
    let axes = numbers[2] ?? starts.indices.map { .known($0) }
    let steps = numbers[3] ?? starts.map { _ in .known(1) }
    guard axes.count == starts.count, steps.count == starts.count else { return nil }
    var kept: [[Int]] = [[], [], [], []]
    for index in starts.indices {
      guard case .known(let start) = starts[index], case .known(let given) = axes[index],
        case .known(let step) = steps[index], given >= -shape.rank, given < shape.rank
      else { return nil }
      let axis = given < 0 ? given + shape.rank : given
      let isWhole =
        switch (ends[index], shape[axis]) {
        case (.known(let end), .fixed(let extent)): end >= extent
        // Exporters write a number larger than any extent for "to the end".
        case (.known(let end), .free): end >= 1_000_000_000
        case (.axis(let name), let extent): extent == .free(name)
        default: false
        }
      if start == 0, step == 1, isWhole { continue }
      guard case .known(let end) = ends[index] else { return nil }
      for (place, number) in [start, end, axis, step].enumerated() { kept[place].append(number) }
    }
    return kept
  }

  /// Pad: the amounts are an attribute before opset 11, an input since.
  func pad() throws(QMError) {
    let input = try input(0)
    let mode: Pad.Mode
    switch try text("mode", default: "constant") {
    case "constant": mode = .constant
    case "reflect": mode = .reflect
    case "edge": mode = .edge
    case "wrap": mode = .wrap
    case let name:
      throw .malformed("mode '\(name.abbreviated)'; ONNX defines constant, reflect, edge, wrap")
    }
    if opset < 11 {
      guard let pads = try integers("pads") else {
        throw .malformed("attribute 'pads' is missing")
      }
      let value = try anyNumber("value") ?? 0
      let constant = try value == 0 || mode != .constant ? nil : addScalar(value, "value")
      return try finish(
        .pad(Pad(mode)), [input, addConstant(pads, "pads"), constant], as: input.type)
    }
    var value = try mode == .constant && hasInput(2) ? self.input(2) : nil
    try requireSameType(input, value)
    // Some exporters write the scalar with shape [1].
    if let given = value, shape(given).rank == 1, shape(given)[0] == 1 {
      value = try append(.squeeze(Squeeze(axes: [0])), [given], as: given.type, "value")
    }
    try finish(
      .pad(Pad(mode)), [input, requiredInt64(1), value, int64(3)], as: input.type)
  }

  func gather() throws(QMError) {
    let input = try input(0)
    let indices = try raw(1)
    let axis = try axis(integer("axis") ?? 0, rank: shape(input).rank)
    try finish(.gather(Gather(axis: axis)), [input, indices], as: input.type)
  }

  // MARK: Repetition

  func expand() throws(QMError) {
    let input = try input(0)
    try finish(.expand(Expand()), [input, requiredInt64(1)], as: input.type)
  }

  func tile() throws(QMError) {
    let input = try input(0)
    try finish(.tile(Tile()), [input, requiredInt64(1)], as: input.type)
  }

  // MARK: Constants

  func constantOfShape() throws(QMError) {
    var value = try addScalar(0, "value")
    if let tensor = try tensor("value") {
      guard tensor.elementCount == 1 else {
        throw .malformed("attribute 'value' has \(tensor.elementCount) elements, expected one")
      }
      value = try addConstant(tensor.reshaped([]), "value")
    }
    let type = value.type
    try finish(.fill(Fill()), [requiredInt64(0), inFloat32(value)], as: type)
  }

  /// Constant: exactly one attribute holds the value.
  func constant() throws(QMError) {
    guard node.attributes.count == 1 else {
      throw .malformed(
        "\(node.attributes.count) attributes; expected exactly one that holds the value")
    }
    func present<Attribute>(_ attribute: Attribute?) throws(QMError) -> Attribute {
      guard let attribute else { throw .malformed("the value of the attribute is missing") }
      return attribute
    }
    let tensor: Tensor
    switch node.attributes[0].name {
    case "value": tensor = try present(self.tensor("value"))
    case "value_float": tensor = try Tensor([], [anyNumber("value_float") ?? 0])
    case "value_floats":
      let numbers = try present(numbers("value_floats"))
      tensor = try Tensor([numbers.count], numbers)
    case "value_int": tensor = try Tensor([], [Int64(present(integer("value_int")))])
    case "value_ints":
      let numbers = try present(integers("value_ints"))
      tensor = try Tensor([numbers.count], numbers.map(Int64.init))
    case let name:
      throw .unsupported("a constant in attribute '\(name.abbreviated)'; expected numbers")
    }
    guard let name = node.outputs.first else { throw .malformed("it has no output") }
    let value = try builder.addGivenConstant(name: name, tensor)
    if case .tensor(let source) = node.attributes[0].value {
      if let type = PackedIntegers(onnx: source.dataType) { builder.setPacked(type, value) }
      if Float8(onnx: source.dataType) != nil { builder.setFloat8(value) }
    }
    try finish([value])
  }

  /// Dropout does nothing in inference.
  func dropout() throws(QMError) {
    if hasInput(2) {
      guard let training = constant(try raw(2)), training.bytes.allSatisfy({ $0 == 0 }) else {
        throw .unsupported("training_mode is not a constant false; export the model for inference")
      }
    }
    let input = try input(0)
    guard node.outputs.count > 1, builder.isUsed(node.outputs[1]), opset >= 10 else {
      return try finish([input])
    }
    // Nothing is dropped: the mask is true everywhere.
    let mask = try append(
      .fill(Fill()), [shapeValue(of: input, "extents"), addConstant(Tensor([], [true]), "true")],
      as: .bool, "mask")
    try finish([input, mask])
  }
}

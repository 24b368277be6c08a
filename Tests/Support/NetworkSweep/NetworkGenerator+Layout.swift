import QMTensor
import QMTestSupport

/// Operators that normalize, recurrent ones, and those that move elements.
extension NetworkGenerator {
  mutating func addNormalization(_ operation: String) throws -> Bool {
    func parameters(
      _ count: Int, _ shape: [Int], of x: Operand, _ generator: inout NetworkGenerator
    ) throws -> [String] {
      var names = [x.name]
      for _ in 0..<count {
        names.append(try generator.operand(x.elementType, shape, constant: 0.85).name)
      }
      return names
    }
    switch operation {
    case "BatchNormalization", "InstanceNormalization", "GroupNormalization":
      let x = try data(Self.floats, rank: 2...5)
      let channels = x.shape.count > 1 ? x.shape[1] : 1
      let isBatch = operation == "BatchNormalization"
      let groups = chance(0.3) ? integer(0...3) : pick([1, max(channels, 1)])
      let isPerGroup = operation == "GroupNormalization" && opset < 21
      var operands = try parameters(
        isBatch ? 3 : 2, [isPerGroup ? groups : channels], of: x, &self)
      if isBatch {
        // A negative variance gives NaN, which no weights may contain.
        let variance = try random.numbers(x.elementType, [channels], isPositive: true)
        operands.append(constant(variance).name)
      }
      add(
        operation, operands,
        maybe("epsilon", .number(pick([1e-5, 0.1, 0])))
          + (operation == "GroupNormalization" ? [("num_groups", .integer(groups))] : []))
    case "LayerNormalization", "RMSNormalization":
      let x = try data(Self.floats)
      let axis = axis(x.shape.count)
      let start = min(max(axis < 0 ? axis + x.shape.count : axis, 0), x.shape.count)
      let shape = chance(0.8) ? Array(x.shape[start...]) : broadcast(Array(x.shape[start...]))
      let count = operation == "LayerNormalization" ? integer(1...2) : 1
      add(
        operation, try parameters(count, shape, of: x, &self),
        [("axis", .integer(axis))] + maybe("epsilon", .number(pick([1e-5, 0.1, 0]))))
    case "LRN":
      add(
        operation, [try data(Self.floats, rank: 3...5).name],
        [("size", .integer(integer(1...4)))] + maybe("alpha", .number(0.5))
          + maybe("bias", .number(2)))
    default: return false
    }
    return true
  }

  mutating func addRecurrent(_ operation: String) throws -> Bool {
    guard let gates = ["RNN": 1, "GRU": 3, "LSTM": 4][operation] else { return false }
    let x = try data(Self.floats, rank: 3...3)
    let width = x.shape.last ?? 1
    let batch = x.shape.count == 3 ? x.shape[1] : 1
    let hidden = pick([1, 2, 3])
    let direction = pick(["forward", "reverse", "bidirectional"])
    let directions = direction == "bidirectional" ? 2 : 1
    let type = x.elementType
    var inputs = [
      x.name,
      try operand(type, [directions, gates * hidden, width], constant: 0.9).name,
      try operand(type, [directions, gates * hidden, hidden], constant: 0.9).name,
    ]
    inputs.append(
      chance(0.5)
        ? try operand(type, [directions, 2 * gates * hidden], constant: 0.9).name : "")
    if chance(0.3) {
      let length = x.shape.first ?? 0
      inputs.append(
        try integers((0..<batch).map { _ in integer(0...length) }, constant: 0.5, type: .int32))
    } else {
      inputs.append("")
    }
    for _ in 0..<(operation == "LSTM" ? 2 : 1) {
      inputs.append(chance(0.4) ? try operand(type, [directions, batch, hidden]).name : "")
    }
    add(
      operation, inputs,
      [("hidden_size", .integer(hidden)), ("direction", .text(direction))]
        + maybe("clip", .number(1), 0.1)
        + (operation == "GRU" ? flag("linear_before_reset") : [])
        + (operation == "LSTM" ? maybe("input_forget", .integer(integer(0...1)), 0.1) : [])
        + (opset >= 14 ? maybe("layout", .integer(integer(0...1)), 0.2) : []),
      outputs: integer(1...2))
    return true
  }

  mutating func addLayout(_ operation: String) throws -> Bool {
    switch operation {
    case "Reshape":
      let x = try data(Self.all)
      add(
        operation, [x.name, try integers(target(of: x.shape))], opset >= 14 ? flag("allowzero") : []
      )
    case "Squeeze":
      let x = try data(Self.all)
      let ones = x.shape.indices.filter { x.shape[$0] == 1 && chance(0.6) }
      let axes =
        chance(0.1) ? axes(x.shape.count) : ones.map { chance(0.3) ? $0 - x.shape.count : $0 }
      try addWithAxes(operation, x, axes, inputSince: 13)
    case "Unsqueeze":
      let x = try data(Self.all)
      try addWithAxes(operation, x, axes(x.shape.count + pick([1, 1, 2])), inputSince: 13)
    case "Transpose":
      let x = try data(Self.all)
      var order = Array(x.shape.indices).shuffled(using: &random)
      if chance(0.03) { order.append(0) }
      add(operation, [x.name], maybe("perm", .integers(order), 0.85))
    case "Concat":
      let x = try data(Self.all)
      let axis = axis(x.shape.count)
      let position = axis < 0 ? axis + x.shape.count : axis
      var names = [x.name]
      for _ in 0..<integer(0...2) {
        var shape = x.shape
        if shape.indices.contains(position) { shape[position] = integer(0...3) }
        names.append(chance(0.4) ? x.name : try operand(x.elementType, shape).name)
      }
      add(operation, names.shuffled(using: &random), [("axis", .integer(axis))])
    case "Split":
      let x = try data(Self.all)
      let axis = axis(x.shape.count)
      let position = axis < 0 ? axis + x.shape.count : axis
      let extent = x.shape.indices.contains(position) ? x.shape[position] : 1
      let first = integer(0...extent)
      let count = integer(1...3)
      var attributes = maybe("axis", .integer(axis), 0.9)
      if chance(0.5) {
        let sizes = [first, extent - first]
        if opset < 13 { attributes.append(("split", .integers(sizes))) }
        add(
          operation, opset < 13 ? [x.name] : [x.name, try integers(sizes)], attributes, outputs: 2)
      } else {
        if opset >= 18 { attributes.append(("num_outputs", .integer(count))) }
        add(operation, [x.name], attributes, outputs: count)
      }
    case "Slice": try addSlice()
    case "Pad":
      let x = try data(Self.all)
      let pads = (0..<2 * x.shape.count).map { _ in chance(0.4) ? integer(-1...2) : 0 }
      let mode = maybe("mode", .text(pick(["constant", "reflect", "edge", "wrap"])))
      if opset < 11 {
        add(operation, [x.name], mode + [("pads", .integers(pads))])
      } else {
        var inputs = [x.name, try integers(pads)]
        if chance(0.3) { inputs.append(try operand(x.elementType, [], constant: 0.8).name) }
        add(operation, inputs, mode)
      }
    case "Expand":
      let x = try data(Self.all)
      let target = x.shape.map { $0 == 1 && chance(0.5) ? integer(0...3) : chance(0.3) ? 1 : $0 }
      add(operation, [x.name, try integers(chance(0.3) ? extents(0...2) + target : target)])
    case "Tile":
      let x = try data(Self.all)
      let counts = x.shape.map { _ in integer(chance(0.1) ? 0...0 : 1...2) }
      add(operation, [x.name, try integers(counts)])
    case "CenterCropPad":
      let x = try data()
      let axes = axes(x.shape.count)
      add(
        operation, [x.name, try integers(axes.map { _ in integer(0...4) })],
        [("axes", .integers(axes))])
    default: return false
    }
    return true
  }

  /// The extents of a reshaped value, with -1 and 0 in places.
  private mutating func target(of shape: [Int]) -> [Int] {
    let count = shape.reduce(1, *)
    var target: [Int]
    switch integer(0...5) {
    case 0: target = [-1]
    case 1: target = [count, 1]
    case 2: target = shape.reversed()
    case 3: target = shape.isEmpty ? [1] : [0] + shape.dropFirst()
    case 4: target = extents(0...4)
    default: target = shape + [1]
    }
    if chance(0.4), let position = target.indices.randomElement(using: &random) {
      target[position] = -1
    }
    return target
  }

  private mutating func addSlice() throws {
    let x = try data(Self.all)
    let axes = chance(0.3) ? Array(x.shape.indices) : axes(x.shape.count)
    let starts = axes.map { _ in integer(-4...4) }
    let ends = axes.map { _ in
      chance(0.3) ? pick([Int.max, Int.min, Int(Int32.max)]) : integer(-4...4)
    }
    if opset < 10 {
      add(
        "Slice", [x.name],
        [("starts", .integers(starts)), ("ends", .integers(ends)), ("axes", .integers(axes))])
      return
    }
    var inputs = [x.name, try integers(starts), try integers(ends), try integers(axes)]
    if chance(0.6) {
      inputs.append(
        try integers(
          axes.map { _ in pick(chance(0.1) ? [0, Int.min, Int.max] : [1, 1, 2, -1, -2]) }))
    }
    add("Slice", inputs)
  }

  mutating func addSelection(_ operation: String) throws -> Bool {
    /// Indices below an extent, mostly.
    func indices(_ shape: [Int], _ extent: Int, _ generator: inout NetworkGenerator)
      throws -> String
    {
      let values = (0..<shape.reduce(1, *)).map { _ in
        generator.chance(0.02)
          ? generator.integer(-5...5) : generator.integer(-extent...max(extent - 1, -extent))
      }
      return try generator.integers(values, shape: shape, constant: 0.6)
    }
    guard
      operation.hasPrefix("Gather") || operation.hasPrefix("Scatter")
        || ["NonZero", "OneHot"].contains(operation)
    else { return false }
    let x = try data(Self.all)
    let axis = axis(x.shape.count)
    let position = axis < 0 ? axis + x.shape.count : axis
    let extent = x.shape.indices.contains(position) ? x.shape[position] : 1
    var attributes: Attributes = [("axis", .integer(axis))]
    if operation.hasPrefix("Scatter"), operation != "Scatter", opset >= 16 {
      attributes += maybe("reduction", .text(pick(["none", "add", "mul", "max", "min"])), 0.4)
    }
    switch operation {
    case "Gather":
      add(operation, [x.name, try indices(extents(0...2), extent, &self)], attributes)
    case "GatherElements":
      let shape = x.shape.map { integer(0...$0) }
      add(operation, [x.name, try indices(shape, extent, &self)], attributes)
    case "Scatter", "ScatterElements":
      let shape = x.shape.map { integer(0...$0) }
      add(
        operation,
        [x.name, try indices(shape, extent, &self), try operand(x.elementType, shape).name],
        attributes)
    case "GatherND", "ScatterND":
      let depth = integer(0...x.shape.count)
      let lead = extents(0...2)
      let least = x.shape.prefix(depth).min() ?? 1
      let places = try indices(lead + [depth], least, &self)
      if operation == "GatherND" {
        add(
          operation, [x.name, places],
          opset >= 12 ? maybe("batch_dims", .integer(integer(0...2)), 0.2) : [])
      } else {
        let updates = try operand(x.elementType, lead + x.shape.dropFirst(depth))
        add(operation, [x.name, places, updates.name], Array(attributes.dropFirst()))
      }
    case "NonZero": add(operation, [x.name])
    default:
      let depth = try integers([integer(0...4)], shape: [])
      let values = try operand(.float32, [2], constant: 0.9)
      let places = chance(0.5) ? x.name : try integers([0, 1, -1], constant: 0)
      add(operation, [places, depth, values.name], maybe("axis", .integer(axis)))
    }
    return true
  }

  mutating func addConstant(_ operation: String) throws -> Bool {
    switch operation {
    case "Range":
      let bounds = try (0..<3).map { _ in
        try integers([integer(-3...4)], shape: [])
      }
      add(operation, bounds)
    case "ConstantOfShape":
      let value = try random.numbers(pick(Self.all), [1])
      add(operation, [try integers(extents(0...4), constant: 0.6)], maybe("value", .tensor(value)))
    case "Constant":
      add(operation, [], [("value", .tensor(try random.numbers(pick(Self.all), extents(0...4))))])
    case "If":
      let x = try data(Self.all)
      let other = try operand(x.elementType, chance(0.8) ? x.shape : extents(0...3))
      let condition = try operand(.bool, chance(0.5) ? [] : [1])
      var attributes: Attributes = []
      for (name, value) in [("then_branch", x), ("else_branch", other)] {
        var branch = ONNXNetwork(opset: 0)
        let result = newName("branch")
        branch.nodes = [
          .init(pick(["Identity", "Relu", "Transpose", "Shape"]), [value.name], [result])
        ]
        branch.outputs = [result]
        attributes.append((name, .network(branch)))
      }
      add(operation, [condition.name], attributes)
    case "QuantizeLinear", "DequantizeLinear":
      let isQuantize = operation == "QuantizeLinear"
      let x = try data(isQuantize ? [.float32] : [.int8, .uint8, .int32, .int16])
      let shape = chance(0.7) ? [] : [x.shape.randomElement(using: &random) ?? 1]
      let scale = constant(try random.tensor(shape, in: 0.01...0.5)).name
      var inputs = [x.name, scale]
      if chance(0.6) {
        let type = isQuantize ? pick([.int8, .uint8, .int16]) : x.elementType
        inputs.append(constant(try random.numbers(type, shape, isPositive: true)).name)
      }
      add(operation, inputs, maybe("axis", .integer(axis(x.shape.count)), 0.4))
    default: return false
    }
    return true
  }
}

import QMOperations
import QMTensor

// Parts of values: running products, sequences of different lengths, chosen slices.

extension NodeReader {
  /// CumProd: products of 1, 2, 4, … neighbours.
  func cumulativeProduct() throws(QMError) {
    let input = try input(0)
    guard let given = try constantInteger(1, "axis") else { throw .malformed("input 1 is missing") }
    let axis = try axis(given, rank: shape(input).rank)
    guard let extent = shape(input)[axis].extent, extent <= 1 << 20 else {
      throw .unsupported(
        "axis \(given) of \(shape(input)); expected a fixed extent", remedies: .cutBefore)
    }
    let isReversed = try flag("reverse", default: false)
    let one = try number(1, like: input)
    /// The value moved by some elements; ones come in.
    func moved(_ value: Value, by count: Int) throws(QMError) -> Value {
      var pads = [Int](repeating: 0, count: 2 * shape(input).rank)
      pads[axis] = count
      let wide = try call("Pad", value, integers(pads), one)
      return try sliced(wide, axis: axis, from: 0, to: extent)
    }
    var value = try isReversed ? reversed(input, axis: axis) : input
    if try flag("exclusive", default: false) { value = try moved(value, by: 1) }
    var reach = 1
    while reach < extent {
      value = try call("Mul", value, moved(value, by: reach))
      reach *= 2
    }
    try finish([isReversed ? reversed(value, axis: axis) : value])
  }

  /// ReverseSequence: the first elements of each sequence in the opposite order.
  func reverseSequence() throws(QMError) {
    let input = try raw(0)
    let lengths = try raw(1)
    let rank = shape(input).rank
    let timeAxis = try integer("time_axis") ?? 0
    let batchAxis = try integer("batch_axis") ?? 1
    guard rank >= 2, [0, 1].contains(timeAxis), batchAxis == 1 - timeAxis else {
      throw .malformed("time_axis \(timeAxis) and batch_axis \(batchAxis); expected 0 and 1")
    }
    if isWhole(lengths, axis: shape(input)[timeAxis]) {
      return try finish([reversed(input, axis: timeAxis)])
    }
    guard let count = shape(input)[timeAxis].extent, count <= 1 << 24 else {
      throw .unsupported(
        "axis \(timeAxis) of \(shape(input)); expected a fixed extent", remedies: .cutBefore)
    }
    var order = Array(0..<rank)
    if timeAxis == 0 { order.swapAt(0, 1) }
    let rows = try transposed(input, order)
    let places = addConstant(try Tensor([1, count], (0..<count).map { Int64($0) }), "places")
    let length = try call("Unsqueeze", lengths, integers([1]))
    let isInside = try call("Less", places, length)
    let opposite = try call("Sub", call("Sub", length, integers([1])), places)
    let index = try call("Where", isInside, opposite, places)
    let result = try call(
      "GatherND", rows, call("Unsqueeze", index, integers([-1])),
      with: ["batch_dims": .integer(1)])
    try finish([transposed(result, order)])
  }

  /// Whether each of the lengths is the extent of a dynamic axis, repeated: so tf2onnx writes the
  /// reversal of an axis.
  private func isWhole(_ lengths: Value, axis: Shape.Axis) -> Bool {
    guard axis.extent == nil, let extent = LoopNumber(axis), case .graph(let id) = lengths.place
    else { return false }
    let numbers = LoopNumbers(builder)
    guard let node = numbers.producer(of: id), case .expand = node.operation,
      let repeated = node.input(0)
    else { return false }
    return numbers.number(repeated) == extent
  }

  /// Compress: the slices along an axis, or the elements, for which a condition holds.
  func compress() throws(QMError) {
    var input = try raw(0)
    let condition = try raw(1)
    guard condition.type == .bool, shape(condition).rank == 1 else {
      throw .malformed(
        "a condition \(condition.type)\(shape(condition)), expected bools along one axis")
    }
    let axis: Int
    if let given = try integer("axis") {
      axis = try self.axis(given, rank: shape(input).rank)
    } else {
      input = try reshaped(input, [-1])
      axis = 0
    }
    let places = try reshaped(call("NonZero", condition), [-1])
    try finish(call("Gather", [input, places], ["axis": .integer(Int64(axis))], outputs: 1))
  }

  /// SwiGLU: a · sigmoid(alpha · a) · b.
  func swishGate() throws(QMError) {
    let (gate, value) = (try float(0), try float(1))
    let alpha = try number("alpha", default: 1)
    let swish: Value
    if alpha == 1 {
      swish = try append(.unary(Unary(.silu)), [gate], as: gate.type, "swish")
    } else {
      let scaled = try call("Mul", gate, number(Double(alpha), like: gate))
      swish = try call("Mul", gate, call("Sigmoid", scaled))
    }
    try finish(call("Mul", [swish, value], outputs: 1))
  }

  /// TensorScatter: a cache with new elements from a place on that each sample has.
  func tensorScatter() throws(QMError) {
    let (cache, update) = (try input(0), try input(1))
    try requireSameType(cache, update)
    let rank = shape(cache).rank
    let axis = try axis(integer("axis") ?? -2, rank: rank)
    guard axis >= 1, shape(update).rank == rank, let length = shape(cache)[axis].extent,
      let count = shape(update)[axis].extent, count <= length
    else {
      throw .unsupported(
        "cache \(shape(cache)) and update \(shape(update)); expected fixed extents along axis \(axis)",
        remedies: .cutBefore)
    }
    let isCircular: Bool
    switch try text("mode", default: "linear") {
    case "linear": isCircular = false
    case "circular": isCircular = true
    case let mode: throw .malformed("mode '\(mode.abbreviated)'; ONNX defines linear and circular")
    }
    let steps = addConstant(
      try Tensor([count], (0..<count).map { Int64($0) }), "steps")
    var places = try call("Unsqueeze", steps, integers([0]))
    if let starts = try optional(2) {
      places = try call("Add", call("Unsqueeze", starts, integers([1])), places)
    }
    if isCircular { places = try call("Mod", places, integers([length])) }
    // Indices for each element of the update: [batch, 1, …, count, …, 1], repeated.
    let others = (1..<rank).filter { $0 != axis }
    let wide = try others.isEmpty ? places : call("Unsqueeze", places, integers(others))
    let indices = try call("Expand", wide, call("Shape", update))
    try finish(
      call(
        "ScatterElements", [cache, indices, update], ["axis": .integer(Int64(axis))], outputs: 1))
  }

  /// CausalConvWithState: a depthwise convolution over a state and the input, and the next state.
  func causalConvolution() throws(QMError) {
    let (input, weights) = (try float(0), try float(1))
    guard shape(input).rank == 3, shape(weights).rank == 3,
      let channels = shape(weights)[0].extent, let length = shape(weights)[2].extent
    else {
      throw .malformed(
        "input \(shape(input)) and weights \(shape(weights)); expected [N, C, length] and [C, 1, k]"
      )
    }
    let whole: Value
    if let past = try optionalFloat(3) {
      whole = try call("Concat", [past, input], ["axis": .integer(2)], outputs: 1)[0]
    } else {
      whole = try call("Pad", input, integers([0, 0, length - 1, 0, 0, 0]))
    }
    var result = try call(
      "Conv", [whole, weights, optionalFloat(2)], ["group": .integer(Int64(channels))],
      outputs: 1)[0]
    switch try text("activation", default: "none") {
    case "none": break
    case "silu", "swish":
      result = try append(.unary(Unary(.silu)), [result], as: result.type, "activation")
    case let name: throw .malformed("activation '\(name.abbreviated)'")
    }
    let state =
      try length > 1
      ? sliced(whole, axis: 2, from: 1 - length, to: Int(Int32.max))
      : sliced(whole, axis: 2, from: 0, to: 0)
    try finish([result, state])
  }
}

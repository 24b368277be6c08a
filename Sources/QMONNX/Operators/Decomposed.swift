import QMOperations
import QMTensor

// Operators that become several operations.

extension NodeReader {
  private func step(
    _ function: UnaryFunction, _ value: Value, _ name: String
  ) throws(QMError) -> Value {
    try append(.unary(Unary(function)), [value], as: value.type, name)
  }

  private func step(
    _ function: BinaryFunction, _ left: Value, _ right: Value, _ name: String
  ) throws(QMError) -> Value {
    try append(.binary(Binary(function)), [left, right], as: left.type, name)
  }

  /// x · sigmoid(alpha · x).
  func swish() throws(QMError) {
    let input = try float(0)
    let alpha = try number("alpha", default: 1)
    if alpha == 1 { return try unary(.silu) }
    let scaled = try step(.affine(scale: alpha, offset: 0), input, "scaled")
    let gate = try step(.sigmoid, scaled, "gate")
    try finish(.binary(Binary(.multiply)), [input, gate], as: input.type)
  }

  /// Cosh and Sinh: (eˣ ± e⁻ˣ) / 2. Sinh is computed as tanh(x) · cosh(x), because the difference
  /// would cancel near 0.
  func hyperbolic(isCosine: Bool) throws(QMError) {
    let input = try float(0)
    let up = try step(.exponential, input, "up")
    let down = try step(.exponential, step(.negate, input, "negative"), "down")
    let sum = try step(.add, up, down, "sum")
    let cosine = Operation.unary(Unary(.affine(scale: 0.5, offset: 0)))
    if isCosine { return try finish(cosine, [sum], as: input.type) }
    let half = try append(cosine, [sum], as: input.type, "cosine")
    try finish(
      .binary(Binary(.multiply)), [step(.tanh, input, "tanh"), half], as: input.type)
  }

  /// Shrink: 0 within ±lambd, else x moved by `bias` towards 0.
  func shrink() throws(QMError) {
    let input = try float(0)
    let (limit, bias) = (try number("lambd", default: 0.5), try number("bias", default: 0))
    func choice(
      _ comparison: Compare.Function, _ bound: Float, _ offset: Float, _ other: Value,
      _ name: String
    ) throws(QMError) -> Value {
      let isBeyond = try append(
        .comparison(Compare(comparison)), [input, addScalar(bound, name + "Bound")], as: .bool,
        name + "Is")
      let moved = try step(.affine(scale: 1, offset: offset), input, name + "Moved")
      return try append(.select(Select()), [isBeyond, moved, other], as: input.type, name)
    }
    // With a negative lambd both can hold: the first rule of the text counts.
    let high = try choice(.greater, limit, -bias, addScalar(0, "zero"), "high")
    try finish([choice(.less, -limit, bias, high, "low")])
  }

  /// RMSNormalization: x / √(mean(x²) + ε) · scale, with the mean over `axis` and all later axes.
  func rmsNormalization() throws(QMError) {
    let input = try float(0)
    let scale = try float(1)
    let axis = try axis(integer("axis") ?? -1, rank: shape(input).rank)
    let quotient = try rootMeanSquareQuotient(
      input, axis: axis, epsilon: number("epsilon", default: 1e-5))
    try finish(.binary(Binary(.multiply)), [quotient, scale], as: input.type)
  }

  /// x / √(mean(x²) + ε).
  func rootMeanSquareQuotient(
    _ input: Value, axis: Int, epsilon: Float
  ) throws(QMError) -> Value {
    let rank = shape(input).rank
    let squares = try step(.square, input, "squares")
    let mean = try append(
      .reduction(Reduction(.mean, axes: Array(axis..<rank), keepsAxes: true)), [squares],
      as: input.type, "mean")
    let root = try step(
      .squareRoot, step(.affine(scale: 1, offset: epsilon), mean, "shifted"), "root")
    return try step(.divide, input, root, "quotient")
  }

  /// MeanVarianceNormalization: (x − mean) / (σ + 1e-9).
  func meanVarianceNormalization() throws(QMError) {
    let input = try float(0)
    let axes = try axes(integers("axes") ?? [0, 2, 3], rank: shape(input).rank)
    func mean(_ value: Value, _ name: String) throws(QMError) -> Value {
      try append(
        .reduction(Reduction(.mean, axes: axes, keepsAxes: true)), [value], as: value.type, name)
    }
    let centred = try step(.subtract, input, mean(input, "mean"), "centred")
    let variance = try mean(step(.square, centred, "squares"), "variance")
    let deviation = try step(.squareRoot, variance, "deviation")
    let divisor = try step(.affine(scale: 1, offset: 1e-9), deviation, "divisor")
    try finish(.binary(Binary(.divide)), [centred, divisor], as: input.type)
  }

  /// LRN: x / (bias + alpha / size · Σx²)^beta, the sum over `size` neighbouring channels.
  func localResponseNormalization() throws(QMError) {
    let input = try float(0)
    let rank = shape(input).rank
    guard let size = try integer("size"), size > 0, size < 1 << 16 else {
      throw .malformed("attribute 'size' is missing or not positive")
    }
    guard rank >= 3, let channels = shape(input)[1].extent else {
      throw .unsupported(
        "input \(shape(input)); expected at least three axes and a fixed number of channels")
    }
    // No window slides over channels or positions that do not exist.
    guard !shape(input).axes.dropFirst().contains(0) else { return try finish([input]) }
    // A batch of 0 samples leaves −1 undetermined.
    let positions = Shape(Array(shape(input).axes.dropFirst(2))).extents?.reduce(1, *) ?? -1
    let squares = try step(.square, input, "squares")
    let flat = try append(
      .reshape(Reshape()), [squares, addConstant([0, 1, channels, positions], "flat")],
      as: input.type, "columns")
    let before = (size - 1) / 2
    let mean = try append(
      .pooling(
        Pooling(
          kind: .averageOfPadded, order: .channelsFirst, window: [size, 1], strides: [1, 1],
          dilations: [1, 1],
          padding: .explicit(before: [before, 0], after: [size - 1 - before, 0]),
          roundsUp: false)),
      [flat], as: input.type, "neighbours")
    let whole = try append(
      .reshape(Reshape()), [mean, shapeValue(of: input, "extents")], as: input.type, "mean")
    let base = try step(
      .affine(scale: number("alpha", default: 1e-4), offset: number("bias", default: 1)), whole,
      "base")
    let divisor = try step(
      .power, base, addScalar(number("beta", default: 0.75), "beta"), "divisor")
    try finish(.binary(Binary(.divide)), [input, divisor], as: input.type)
  }

  /// LpPool: the root of the sum of powers over each window.
  func lpPooling() throws(QMError) {
    let input = try float(0)
    guard let window = try integers("kernel_shape"), !window.isEmpty,
      shape(input).rank == window.count + 2
    else {
      throw .malformed("attribute 'kernel_shape' is missing or does not fit input \(shape(input))")
    }
    let p = try integer("p") ?? 2
    guard p >= 1 else { throw .malformed("p = \(p); expected 1 or more") }
    var powers = try step(p == 2 ? .square : .absolute, input, "powers")
    if p > 2 { powers = try step(.power, powers, addScalar(Float(p), "p"), "raised") }
    var attributes = try self.window(spatialRank: window.count)
    if try flag("ceil_mode", default: false),
      case .explicit(let before, let after) = attributes.padding
    {
      attributes.padding = try roundedUp(before, after, window, attributes, of: input)
    }
    let mean = try append(
      .pooling(
        Pooling(
          kind: .averageOfPadded, order: .channelsFirst, window: window,
          strides: attributes.strides, dilations: attributes.dilations,
          padding: attributes.padding, roundsUp: false)),
      [powers], as: input.type, "mean")
    let count = window.reduce(1.0) { $0 * Double($1) }
    let sum = try step(.affine(scale: Float(count), offset: 0), mean, "sum")
    switch p {
    case 1: try finish([sum])
    case 2: try finish(.unary(Unary(.squareRoot)), [sum], as: input.type)
    default:
      try finish(
        .binary(Binary(.power)), [sum, addScalar(1 / Float(p), "root")], as: input.type)
    }
  }

  /// Padding with as many more zeros behind each axis as the last window needs, which reaches beyond
  /// it: a sum, unlike a mean, does not depend on how many elements of a window there are.
  private func roundedUp(
    _ before: [Int], _ after: [Int], _ window: [Int], _ attributes: Window, of input: Value
  ) throws(QMError) -> Padding {
    var wide = after
    for axis in window.indices {
      guard let extent = shape(input)[axis + 2].extent, extent <= Self.largestExtent,
        (1...Self.largestExtent).contains(window[axis])
      else {
        throw .unsupported(
          "ceil_mode = 1 for \(shape(input)); expected fixed spatial axes", remedies: .cutBefore)
      }
      let stride = attributes.strides[axis]
      let reach = (window[axis] - 1) * attributes.dilations[axis] + 1
      let room = extent + before[axis] + after[axis] - reach
      guard room > 0 else { continue }
      let steps = (room + stride - 1) / stride
      // A window that begins behind the input is left out.
      guard steps * stride < extent + before[axis] else { continue }
      wide[axis] += steps * stride - room
    }
    return .explicit(before: before, after: wide)
  }

  /// Hardmax: 1 at the first of the largest elements along an axis, 0 elsewhere.
  func hardmax() throws(QMError) {
    let input = try float(0)
    guard !shape(input).axes.contains(0) else { return try finish([input]) }
    let rank = shape(input).rank
    func marked(_ value: Value, axis: Int) throws(QMError) -> Value {
      guard let depth = shape(value)[axis].extent else {
        throw .unsupported("axis \(axis) of \(shape(value)) is dynamic; expected a fixed extent")
      }
      let place = try append(
        .argMinMax(ArgMinMax(.maximum, axis: axis, keepsAxis: false, takesLast: false)),
        [value], as: .int64, "place")
      return try append(
        .oneHot(OneHot(axis: axis)),
        [
          place, addConstant(Tensor([], [Int64(depth)]), "depth"),
          addConstant(Tensor([2], [Float(0), 1]), "values"),
        ], as: input.type, "marked")
    }
    if opset >= 13 {
      return try finish([marked(input, axis: axis(integer("axis") ?? -1, rank: rank))])
    }
    let given = try integer("axis") ?? 1
    let first = given == rank ? rank : try axis(given, rank: rank)
    let flat = try append(.flatten(Flatten(axis: first)), [input], as: input.type, "flat")
    try finish(
      .reshape(Reshape()), [marked(flat, axis: 1), shapeValue(of: input, "extents")],
      as: input.type)
  }

  /// EyeLike: ones on a diagonal.
  func eyeLike() throws(QMError) {
    let input = try raw(0)
    guard let extents = shape(input).extents, extents.count == 2 else {
      throw .unsupported("input \(shape(input)); expected two fixed axes")
    }
    let offset = try integer("k") ?? 0
    let largest = 1 << 22
    guard let count = Shape.elementCount(of: extents), count <= largest, extents[0] <= largest,
      (-largest...largest).contains(offset)
    else {
      throw .unsupported(
        "a matrix \(extents) with k = \(offset); at most \(largest) elements can be read")
    }
    var elements = [Float](repeating: 0, count: count)
    for row in 0..<extents[0] where (0..<extents[1]).contains(row + offset) {
      elements[row * extents[1] + row + offset] = 1
    }
    let type = try integer("dtype").flatMap(Int32.init(exactly:)).map { (type) throws(QMError) in
      try ElementType(onnx: type)
    }
    let target = type ?? input.type
    let eye = addConstant(try Tensor(extents, elements), "eye")
    if target.isFloatingPoint { return try finish([Value(place: eye.place, type: target)]) }
    try finish(.cast(Cast(to: target)), [eye], as: target)
  }

  /// BitwiseNot: −x − 1, in two's complement.
  func bitwiseNot() throws(QMError) {
    let input = try raw(0)
    guard input.type.isInteger, input.type != .uint64 else {
      throw .unsupported("input of type \(input.type); expected int8 to int64 or uint8 to uint32")
    }
    let wide: ElementType = input.type == .int64 || input.type == .uint32 ? .int64 : .int32
    var value = input
    if wide != input.type { value = try append(.cast(Cast(to: wide)), [input], as: wide, "wide") }
    let ones = addConstant(
      wide == .int64 ? try Tensor([], [Int64(-1)]) : try Tensor([], [Int32(-1)]), "ones")
    let operation = Operation.binary(Binary(.subtract))
    if wide == input.type { return try finish(operation, [ones, value], as: wide) }
    let flipped = try append(operation, [ones, value], as: wide, "flipped")
    try finish(.cast(Cast(to: input.type)), [flipped], as: input.type)
  }

  /// CenterCropPad: each axis is cropped or padded equally at both ends to the given extent.
  func centerCropPad() throws(QMError) {
    let input = try input(0)
    guard let target = try constantIntegers(1, "extents"), let own = shape(input).extents else {
      throw .unsupported("input \(shape(input)); expected fixed axes")
    }
    var axes = Array(own.indices)
    if let given = try integers("axes") {
      axes = []
      for axis in given { axes.append(try self.axis(axis, rank: own.count)) }
    }
    guard axes.count == target.count, Set(axes).count == axes.count,
      target.allSatisfy({ $0 >= 0 && $0 < 1 << 31 })
    else {
      throw .malformed(
        "extents \(target.prefix(8)) do not match the axes \(axes.prefix(8)); expected one per axis"
      )
    }
    var (starts, ends) = ([Int](), [Int]())
    var pads = [Int](repeating: 0, count: 2 * own.count)
    for (axis, extent) in zip(axes, target) {
      let excess = own[axis] - extent
      starts.append(max(excess, 0) / 2)
      ends.append(max(excess, 0) / 2 + min(own[axis], extent))
      pads[axis] = max(-excess, 0) / 2
      pads[own.count + axis] = max(-excess, 0) - pads[axis]
    }
    let cut = try append(
      .slice(Slice()),
      [
        input, addConstant(starts, "starts"), addConstant(ends, "ends"),
        addConstant(axes, "axes"), addConstant(axes.map { _ in 1 }, "steps"),
      ], as: input.type, "cut")
    try finish(.pad(Pad(.constant)), [cut, addConstant(pads, "pads"), nil, nil], as: input.type)
  }
}

import QMOperations
import QMTensor

extension NodeReader {
  func unary(_ function: UnaryFunction) throws(QMError) {
    let input = try input(0)
    guard input.type.isInteger else {
      return try finish(.unary(Unary(function)), [input], as: input.type)
    }
    let isSigned = [.int8, .int16, .int32, .int64].contains(input.type)
    switch function {
    case .relu where isSigned:
      if try finishClampedCodes(input, 0, nil) { return }
      let zero = try addConstant(Tensor(zeros: input.type, []), "zero")
      try finish(.maximum, input, zero)
    case .absolute where !isSigned: try finish([input])
    case .sign where !isSigned:
      let isPositive = try append(.cast(Cast(to: .bool)), [input], as: .bool, "isPositive")
      try finish(.cast(Cast(to: input.type)), [isPositive], as: input.type)
    case .absolute, .sign,
      .negate where isSigned:
      guard let wide = widerType(of: input.type) else {
        return try finish(.unary(Unary(function)), [input], as: input.type)
      }
      let widened = try append(.cast(Cast(to: wide)), [input], as: wide, "\(wide)")
      let result = try append(.unary(Unary(function)), [widened], as: wide, "widened")
      try finish(.cast(Cast(to: input.type)), [result], as: input.type)
    default:
      throw .malformed("ONNX does not define the operator for elements of type \(input.type)")
    }
  }

  /// Gelu, exact or approximated by tanh.
  func gelu() throws(QMError) -> UnaryFunction {
    switch try text("approximate", default: "none") {
    case "none": .gelu
    case "tanh": .geluTanh
    case let mode: throw .malformed("approximate '\(mode.abbreviated)'; ONNX defines none and tanh")
    }
  }

  func binary(_ function: BinaryFunction) throws(QMError) {
    let left = try input(0)
    if left.type == .uint64, function == .divide {
      let right = try input(1)
      try requireSameType(left, right)
      return try finish(quotient(signed(left), signed(right)), as: .uint64)
    }
    try finish(function, left, aligned(input(1), with: left))
  }

  /// The right operand of a binary operator. Before opset 7 the attribute 'axis' aligns its first
  /// axis with that axis of the left operand, instead of aligning the last axes.
  private func aligned(_ right: Value, with left: Value) throws(QMError) -> Value {
    guard opset < 7, let given = try integer("axis") else { return right }
    let rank = shape(left).rank
    let axis = try axis(given, rank: rank)
    return try aligned(right, axis: axis, rank: rank)
  }

  /// `value` with axes of extent 1 appended, so that it broadcasts starting at `axis` of `rank`
  /// axes.
  private func aligned(_ value: Value, axis: Int, rank: Int) throws(QMError) -> Value {
    let own = shape(value).rank
    let added = rank - axis - own
    guard own > 0, added > 0 else { return value }
    return try append(
      .unsqueeze(Unsqueeze(axes: Array(own..<(own + added)))), [value], as: value.type, "aligned")
  }

  func parametricRelu() throws(QMError) {
    let input = try input(0)
    try refuseShortIntegers(input)
    var slope = try self.input(1)
    try requireSameType(input, slope)
    // Before opset 7, a vector of slopes is one slope per channel.
    if opset < 7, shape(slope).rank == 1, shape(slope)[0] != 1 {
      slope = try aligned(slope, axis: 1, rank: shape(input).rank)
    }
    guard shape(slope).rank <= shape(input).rank else {
      throw .malformed("slopes \(shape(slope)) do not broadcast to \(shape(input))")
    }
    try finish(.parametricRelu, input, slope)
  }

  /// The wider type in which arithmetic on `type` is computed; truncating the result to `type`
  /// afterwards wraps as two's complement does. nil if no wider type is needed.
  func widerType(of type: ElementType) -> ElementType? {
    switch type {
    case .int8, .uint8, .int16, .uint16: .int32
    case .uint32: .int64
    default: nil
    }
  }

  func finish(
    _ function: BinaryFunction, _ left: Value, _ right: Value
  ) throws(QMError) {
    let (operation, operands) = try lastStep(function, left, right)
    try finish(operation, operands, as: left.type)
  }

  private func append(
    _ function: BinaryFunction, _ left: Value, _ right: Value, _ suffix: String
  ) throws(QMError) -> Value {
    let (operation, operands) = try lastStep(function, left, right)
    return try append(operation, operands, as: left.type, suffix)
  }

  /// The last operation of a binary operator, and its inputs: the function itself, or the cast
  /// after it if the function is computed in a wider type.
  private func lastStep(
    _ function: BinaryFunction, _ left: Value, _ right: Value
  ) throws(QMError) -> (Operation, [Value]) {
    try requireSameType(left, right)
    let operation = Operation.binary(Binary(function))
    // These functions wrap the same for signed and unsigned integers.
    let wraps = [.add, .subtract, .multiply].contains(function)
    guard let wide = left.type == .uint64 && wraps ? .int64 : widerType(of: left.type) else {
      return (operation, [left, right])
    }
    let widen = Operation.cast(Cast(to: wide))
    let operands = [
      try append(widen, [left], as: wide, "left"), try append(widen, [right], as: wide, "right"),
    ]
    return (
      .cast(Cast(to: left.type)), [try append(operation, operands, as: wide, "\(wide)")]
    )
  }

  /// Pow: base and exponent may differ in type; the result has the type of the base.
  func power() throws(QMError) {
    let base = try input(0)
    try refuseShortIntegers(base)
    let exponent = try input(1)
    if base.type.isFloatingPoint, constantScalar(exponent) == 2,
      shape(exponent).rank <= shape(base).rank
    {
      return try finish(.unary(Unary(.square)), [base], as: base.type)
    }
    let isExact = base.type == .int32 || base.type == .int64
    if isExact, exponent.type.isInteger {
      let whole =
        exponent.type == base.type
        ? exponent : try append(.cast(Cast(to: base.type)), [exponent], as: base.type, "exponent")
      return try finish(.binary(Binary(.power)), [base, whole], as: base.type)
    }
    guard base.type != exponent.type || !base.type.isFloatingPoint else {
      return try finish(.binary(Binary(.power)), [base, exponent], as: base.type)
    }
    let left = try castToFloat32(base, "base")
    let right = try castToFloat32(exponent, "exponent")
    let operation = Operation.binary(Binary(.power))
    if base.type.isFloatingPoint {
      return try finish(operation, [left, right], as: base.type)
    }
    let power = try append(operation, [left, right], as: .float32, "power")
    try finish(.cast(Cast(to: base.type)), [power], as: base.type)
  }

  private func castToFloat32(_ value: Value, _ name: String) throws(QMError) -> Value {
    value.type.isFloatingPoint
      ? value : try append(.cast(Cast(to: .float32)), [value], as: .float32, name)
  }

  /// Mod: with `fmod` the result has the dividend's sign, without it the divisor's.
  func remainder() throws(QMError) {
    let left = try input(0)
    let right = try input(1)
    try requireSameType(left, right)
    let hasSignOfDividend = try flag("fmod", default: false)
    if left.type == .uint64 {
      let (dividend, divisor) = (try signed(left), try signed(right))
      let whole = try call("Mul", quotient(dividend, divisor), divisor)
      return try finish(call("Sub", dividend, whole), as: .uint64)
    }
    // The operation itself gives floats the dividend's sign, and integers the divisor's.
    guard hasSignOfDividend != left.type.isFloatingPoint else {
      return try finish(.remainder, left, right)
    }
    guard opset >= 28 || !left.type.isFloatingPoint else {
      throw .malformed("fmod = 0 for \(left.type); expected 1 before opset 28")
    }
    let remainder = try append(.remainder, left, right, "remainder")
    guard ![.uint8, .uint16, .uint32, .uint64].contains(left.type) else {
      return try finish([remainder])
    }
    let zero = try number(0, like: left)
    let other = hasSignOfDividend ? left : right
    let isOther = try call(
      "Xor", call("Less", remainder, zero), call("Less", other, zero))
    let isMoved = try call("And", isOther, call("Not", call("Equal", remainder, zero)))
    let moved = try append(
      hasSignOfDividend ? .subtract : .add, remainder, right, "moved")
    try finish(call("Where", [isMoved, moved, remainder], outputs: 1))
  }

  /// uint64 numbers as the int64 numbers of the same bits.
  private func signed(_ value: Value) throws(QMError) -> Value {
    try append(.cast(Cast(to: .int64)), [value], as: .int64, "signed")
  }

  /// Defines the output as the bits of int64 numbers.
  private func finish(_ value: Value, as type: ElementType) throws(QMError) {
    try finish(.cast(Cast(to: type)), [value], as: type)
  }

  /// The quotient of the uint64 numbers that have the bits of these int64 numbers: twice the quotient
  /// of the half, and 1 more where the rest has room for it. Divisors beyond 2⁶³ fit at most once.
  private func quotient(_ dividend: Value, _ divisor: Value) throws(QMError) -> Value {
    func constant(_ number: Int64, _ name: String) throws(QMError) -> Value {
      addConstant(try Tensor([], [number]), name)
    }
    let (zero, one, two) = (try constant(0, "zero"), try constant(1, "one"), try constant(2, "two"))
    let highest = try constant(.min, "highest")
    func isAtLeast(_ left: Value, _ right: Value) throws(QMError) -> Value {
      try call(
        "Not", call("Less", call("Add", left, highest), call("Add", right, highest)))
    }
    let isLarge = try call("Less", divisor, zero)
    let bounded = try call("Where", isLarge, one, divisor)
    let even = try call("Sub", dividend, call("Mod", dividend, two))
    let half = try call("Div", even, two)
    let positive = try call(
      "Where", call("Less", half, zero), call("Sub", half, highest), half)
    let doubled = try call("Mul", call("Div", positive, bounded), two)
    let rest = try call("Sub", dividend, call("Mul", doubled, bounded))
    let more = try call("Where", isAtLeast(rest, bounded), one, zero)
    let once = try call("Where", isAtLeast(dividend, divisor), one, zero)
    return try call("Where", isLarge, once, call("Add", doubled, more))
  }

  /// The function of the first `count` inputs, from left to right.
  private func chain(_ function: BinaryFunction, _ count: Int) throws(QMError) -> Value {
    var result = try input(0)
    for index in 1..<max(1, count) {
      result = try append(function, result, input(index), "\(index)")
    }
    return result
  }

  /// Min, Max, Sum.
  func many(_ function: BinaryFunction) throws(QMError) {
    if function == .add { try refuseShortIntegers(input(0)) }
    let last = node.inputs.count - 1
    guard last > 0 else { return try finish([input(0)]) }
    if try input(0).type == .uint64, function != .add {
      // In the order of signed numbers once the highest bit is the other one.
      let highest = addConstant(try Tensor([], [Int64.min]), "highest")
      var result = try call("Add", signed(input(0)), highest)
      for index in 1...last {
        try requireSameType(input(0), input(index))
        let other = try call("Add", signed(input(index)), highest)
        result = try append(.binary(Binary(function)), [result, other], as: .int64, "\(index)")
      }
      return try finish(call("Add", result, highest), as: .uint64)
    }
    try finish(function, chain(function, last), input(last))
  }

  /// Mean.
  func meanOfInputs() throws(QMError) {
    try refuseShortIntegers(input(0))
    let sum = try chain(.add, node.inputs.count)
    let count = try addScalar(Float(node.inputs.count), "count")
    try finish(.binary(Binary(.divide)), [sum, count], as: sum.type)
  }

  /// Clip: bounds are attributes before opset 11.
  func clip() throws(QMError) {
    let largest = Float.greatestFiniteMagnitude
    let input = try input(0)
    if opset < 11 {
      let low = try anyNumber("min") ?? -largest
      let high = try anyNumber("max") ?? largest
      return try clip(input, low, high)
    }
    let low = try hasInput(1) ? self.input(1) : nil
    let high = try hasInput(2) ? self.input(2) : nil
    try requireSameType(input, low, high)
    if input.type.isFloatingPoint, low.map(isKnown) ?? true, high.map(isKnown) ?? true {
      return try clip(
        input, low.flatMap(constantScalar) ?? -largest, high.flatMap(constantScalar) ?? largest)
    }
    func integer(_ bound: Value?) throws(QMError) -> Int32?? {
      guard let bound else { return .some(nil) }
      guard let tensor = constant(bound), tensor.elementCount == 1 else { return nil }
      return try tensor.converted(to: .int32).elements(as: Int32.self)[0]
    }
    if let least = try integer(low), let largest = try integer(high),
      try finishClampedCodes(input, least, largest)
    {
      return
    }
    switch (low, high) {
    case (nil, nil): try finish([input])
    case (let low?, nil): try finish(.maximum, input, low)
    case (nil, let high?): try finish(.minimum, input, high)
    case (let low?, let high?): try finish(.minimum, append(.maximum, input, low, "low"), high)
    }
  }

  private func isKnown(_ bound: Value) -> Bool { constantScalar(bound) != nil }

  private func clip(_ input: Value, _ low: Float, _ high: Float) throws(QMError) {
    let largest = Float.greatestFiniteMagnitude
    guard !low.isNaN, !high.isNaN else { throw .malformed("a bound is NaN") }
    let minimum = max(low, -largest)
    let maximum = min(high, largest)
    if minimum == -largest && maximum == largest { return try finish([input]) }
    // If the lower bound is above the upper one, ONNX returns the upper one.
    try finish(
      .unary(
        Unary(
          minimum == 0 && maximum == largest
            ? .relu : .clip(minimum: min(minimum, maximum), maximum: maximum))),
      [input], as: input.type)
  }

  /// Cast. Float types are float32 in the graph; a cast to float16 or bfloat16 still rounds.
  func cast() throws(QMError) {
    guard let number = try integer("to"), let code = Int32(exactly: number) else {
      throw .malformed("attribute 'to' is missing or not an element type")
    }
    if let packed = PackedIntegers(onnx: code) { return try cast(to: packed) }
    try cast(to: ElementType(onnx: code))
  }

  /// CastLike: to the type of the second input.
  func castLike() throws(QMError) {
    let like = try raw(1)
    if let packed = builder.packedType(of: like) { return try cast(to: packed) }
    try cast(to: like.type)
  }

  /// Keeps the low bits of an integer, and of a number what is left of its point.
  private func cast(to target: PackedIntegers) throws(QMError) {
    let input = try raw(0)
    if builder.packedType(of: input) == target { return try finish([input]) }
    let wide = try append(.cast(Cast(to: .int32)), [input], as: .int32, "int32")
    let count = try number(Double(target.bounds.count), like: wide)
    let least = try number(Double(target.bounds.lowerBound), like: wide)
    let above = try call("Mod", call("Sub", wide, least), count)
    let result = try append(
      .cast(Cast(to: target.stored)), [call("Add", above, least)], as: target.stored, "integers")
    builder.setPacked(target, result)
    try finish([result])
  }

  private func cast(to target: ElementType) throws(QMError) {
    let input = try raw(0)
    let isPacked = builder.packedType(of: input) != nil
    if target == input.type, !isPacked { return try finish([input]) }
    switch target {
    case .float32:
      let float = try inFloat32(input)
      if float.type.isFloatingPoint {
        return try finish([Value(place: float.place, type: .float32)])
      }
      try finish(.cast(Cast(to: .float32)), [float], as: .float32)
    case .float16, .bfloat16:
      let narrow = try append(.cast(Cast(to: target)), [input], as: target, "\(target)")
      try finish(.cast(Cast(to: .float32)), [narrow], as: target)
    case .float64:
      let float = try inFloat32(input)
      if float.type.isFloatingPoint { return try finish([Value(place: float.place, type: target)]) }
      try finish(.cast(Cast(to: .float32)), [float], as: target)
    default:
      try finish(.cast(Cast(to: target)), [input], as: target)
    }
  }
}

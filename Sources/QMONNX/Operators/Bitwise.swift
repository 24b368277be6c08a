import QMOperations
import QMTensor

// Operators on the bits of integers, as arithmetic on int64.

extension NodeReader {
  /// Number of bits of an integer type; nil for other types.
  private func bitCount(_ type: ElementType) -> Int? {
    type.isInteger ? 8 * type.byteCount : nil
  }

  private func asInt64(_ value: Value) throws(QMError) -> Value {
    value.type == .int64
      ? value : try append(.cast(Cast(to: .int64)), [value], as: .int64, "int64")
  }

  /// Defines the output as int64 numbers, whose lowest bits make the elements of `type`.
  private func finish(_ value: Value, as type: ElementType) throws(QMError) {
    guard type != .int64 else { return try finish([value]) }
    try finish(.cast(Cast(to: type)), [value], as: type)
  }

  private func int64(_ numbers: [Int64], _ name: String) throws(QMError) -> Value {
    addConstant(try Tensor(numbers.count == 1 ? [] : [numbers.count], numbers), name)
  }

  /// The powers of two up to 2⁶², at positions that a value holds, limited to these.
  private func powers(_ exponents: Value) throws(QMError) -> Value {
    let table = try int64((0..<63).map { 1 << Int64($0) }, "powers")
    let limited = try call("Clip", exponents, int64([0], "zero"), int64([62], "last"))
    return try call("Gather", table, limited)
  }

  /// ⌊value / divisor⌋ for positive divisors.
  private func floored(_ value: Value, over divisor: Value) throws(QMError) -> Value {
    // The remainder is never negative.
    try call("Div", call("Sub", value, call("Mod", value, divisor)), divisor)
  }

  /// BitShift. Signed integers keep their sign when they are shifted to the right.
  func bitShift() throws(QMError) {
    let (left, right) = (try raw(0), try raw(1))
    try requireSameType(left, right)
    guard let bits = bitCount(left.type) else {
      throw .malformed("elements of type \(left.type), expected integers")
    }
    let (value, amount) = (try asInt64(left), try asInt64(right))
    let zero = try int64([0], "zero")
    // Beyond the bits of the type only the sign is left; so it is for negative amounts.
    let isAll = try call(
      "Or", call("Less", amount, zero),
      call("Not", call("Less", amount, int64([Int64(bits)], "bits"))))
    switch try text("direction", default: "") {
    case "LEFT":
      let isLast = try call("Equal", amount, int64([63], "last"))
      let moved = try call("Mul", value, powers(amount))
      let doubled = try call("Where", isLast, call("Add", moved, moved), moved)
      try finish(call("Where", isAll, zero, doubled), as: left.type)
    case "RIGHT":
      let sign = try call("Less", value, zero)
      guard left.type == .uint64 else {
        let rest = try call("Where", sign, int64([-1], "ones"), zero)
        let isBeyond = try call("Greater", amount, int64([62], "last"))
        let moved = try floored(value, over: powers(amount))
        return try finish(
          call("Where", call("Or", isAll, isBeyond), rest, moved), as: left.type)
      }
      // The first shift clears the sign.
      let half = try floored(value, over: int64([2], "two"))
      let positive = try call("Where", sign, call("Sub", half, int64([.min], "sign")), half)
      let rest = try floored(positive, over: powers(call("Sub", amount, int64([1], "one"))))
      let moved = try call("Where", call("Equal", amount, zero), value, rest)
      try finish(call("Where", isAll, zero, moved), as: left.type)
    case let name:
      throw .malformed("direction '\(name.abbreviated)'; ONNX defines LEFT and RIGHT")
    }
  }

  /// How two bits make one.
  enum BitFunction { case and, or, exclusiveOr }

  /// BitwiseAnd, BitwiseOr and BitwiseXor: bit by bit.
  func bitwise(_ function: BitFunction) throws(QMError) {
    let (left, right) = (try raw(0), try raw(1))
    try requireSameType(left, right)
    guard let bits = bitCount(left.type) else {
      throw .malformed("elements of type \(left.type), expected integers")
    }
    let rank = max(shape(left).rank, shape(right).rank)
    let exponents = try int64((0..<Int64(bits)).map { min($0, 62) }, "places")
    let isLast = bits == 64
    /// The bits of each element along a new last axis. Bit 63 is the sign.
    func parts(_ given: Value) throws(QMError) -> Value {
      let value = try call("Unsqueeze", asInt64(given), integers([-1]))
      let shifted = try floored(value, over: powers(exponents))
      let own = try call("Mod", shifted, int64([2], "two"))
      guard isLast else { return own }
      let sign = try append(
        .cast(Cast(to: .int64)), [call("Less", value, int64([0], "zero"))], as: .int64, "sign")
      let lower = try sliced(own, axis: shape(own).rank - 1, from: 0, to: 63)
      return try call("Concat", [lower, sign], ["axis": .integer(-1)], outputs: 1)[0]
    }
    let (one, other) = (try parts(left), try parts(right))
    let combined: Value
    switch function {
    case .and: combined = try call("Mul", one, other)
    case .or: combined = try call("Max", [one, other], outputs: 1)[0]
    case .exclusiveOr:
      combined = try call("Mod", call("Add", one, other), int64([2], "two"))
    }
    let weights = try int64(
      (0..<bits).map { $0 == 63 ? Int64.min : 1 << Int64($0) }, "weights")
    let sum = try call(
      "ReduceSum", call("Mul", combined, weights), integers([rank]),
      with: ["keepdims": .integer(0)])
    try finish(sum, as: left.type)
  }

  /// BitCast of a constant: its bytes with another type of the same size.
  func bitCast() throws(QMError) {
    let input = try raw(0)
    guard let code = try integer("to").flatMap(Int32.init(exactly:)) else {
      throw .malformed("attribute 'to' is missing")
    }
    let type = try ElementType(onnx: code)
    if type == input.type { return try finish([input]) }
    guard let tensor = constant(input), tensor.elementType == input.type else {
      throw .unsupported("the input is computed; expected a constant", remedies: .cutBefore)
    }
    guard type.byteCount == input.type.byteCount, type != .bool else {
      throw .malformed("from \(input.type) to \(type), which are not of one size")
    }
    let result = try Tensor(type, tensor.shape, buffer: .copying(tensor.bytes))
    try finish([inFloat32(addConstant(result, "bits"))])
  }
}

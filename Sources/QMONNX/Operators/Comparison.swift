import QMOperations
import QMTensor

extension NodeReader {
  /// Equal, Less, ….
  func comparison(_ function: Compare.Function) throws(QMError) {
    let left = try input(0)
    let right = try input(1)
    try requireSameType(left, right)
    try finish(.comparison(Compare(function)), [left, right], as: .bool)
  }

  /// And, Or, Xor.
  func logic(_ function: Logic.Function) throws(QMError) {
    try finish(.logic(Logic(function)), [raw(0), raw(1)], as: .bool)
  }

  /// Not: unequal to true.
  func not() throws(QMError) {
    try finish(
      .logic(Logic(.exclusiveOr)), [raw(0), addConstant(Tensor([], [true]), "true")], as: .bool)
  }

  func isNaN() throws(QMError) {
    try finish(.isNaNOrInf(IsNaNOrInf(.notANumber)), [float(0)], as: .bool)
  }

  func isInfinite() throws(QMError) {
    let input = try float(0)
    let kind: IsNaNOrInf.Kind
    switch try (flag("detect_positive", default: true), flag("detect_negative", default: true)) {
    case (true, true): kind = .infinite
    case (true, false): kind = .positiveInfinite
    case (false, true): kind = .negativeInfinite
    case (false, false):
      let shape = try shapeValue(of: input, "extents")
      return try finish(
        .fill(Fill()), [shape, addConstant(Tensor([], [false]), "false")], as: .bool)
    }
    try finish(.isNaNOrInf(IsNaNOrInf(kind)), [input], as: .bool)
  }

  func select() throws(QMError) {
    let condition = try raw(0)
    let (left, right) = (try input(1), try input(2))
    try requireSameType(left, right)
    try finish(.select(Select()), [condition, left, right], as: left.type)
  }
}

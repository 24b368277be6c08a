import QMOperations
import QMTensor

// Operators of the domain ai.onnx.ml on numbers.

extension NodeReader {
  /// Input 0 in float32, in which these operators compute whatever the type of the input is.
  func numbers() throws(QMError) -> Value {
    let value = try input(0)
    return value.type.isFloatingPoint
      ? value : try append(.cast(Cast(to: .float32)), [value], as: .float32, "float32")
  }

  /// A float32 constant of an attribute's numbers, one for all features or one for each.
  private func features(
    _ name: String, of input: Value, default standard: Float
  ) throws(QMError) -> Value {
    let numbers = try self.numbers(name) ?? [standard]
    guard numbers.allSatisfy(\.isFinite) else {
      throw .malformed("attribute '\(name)' holds a number that is not finite")
    }
    let count = shape(input).axes.last?.extent
    guard numbers.count == 1 || count == nil || numbers.count == count, !numbers.isEmpty else {
      throw .malformed("\(numbers.count) numbers in '\(name)' for an input \(shape(input))")
    }
    return addConstant(try Tensor([numbers.count], numbers), name)
  }

  /// Scaler: (x − offset) · scale.
  func scaler() throws(QMError) {
    let input = try numbers()
    let offset = try features("offset", of: input, default: 0)
    let scale = try features("scale", of: input, default: 1)
    try finish(call("Mul", [call("Sub", input, offset), scale], outputs: 1))
  }

  /// Normalizer: each row divided by its largest magnitude, sum of magnitudes or norm.
  func normalizer() throws(QMError) {
    let input = try numbers()
    let axes = try integers([shape(input).rank - 1])
    let size: Value
    switch try text("norm", default: "MAX") {
    case "MAX": size = try call("ReduceMax", input, axes)
    case "L1": size = try call("ReduceL1", input, axes)
    case "L2": size = try call("ReduceL2", input, axes)
    case let norm: throw .malformed("norm '\(norm.abbreviated)'; ONNX defines MAX, L1 and L2")
    }
    // A row of zeros stays as it is.
    let isZero = try call("Equal", size, number(0, like: input))
    let divisor = try call("Where", isZero, number(1, like: input), size)
    try finish(call("Div", [input, divisor], outputs: 1))
  }

  /// Imputer: a number for each missing one, which is NaN or a given number.
  func imputer() throws(QMError) {
    let input = try input(0)
    let isMissing: Value
    let imputed: Value
    if input.type.isFloatingPoint {
      imputed = try features("imputed_value_floats", of: input, default: 0)
      if let replaced = try anyNumber("replaced_value_float"), !replaced.isNaN {
        isMissing = try call("Equal", input, number(Double(replaced), like: input))
      } else {
        isMissing = try call("IsNaN", input)
      }
    } else {
      guard input.type == .int64, let given = try integers("imputed_value_int64s"), !given.isEmpty
      else {
        throw .unsupported("an input of type \(input.type) without imputed_value_int64s")
      }
      imputed = try addConstant(given, "imputed")
      let replaced = try integer("replaced_value_int64") ?? 0
      isMissing = try call("Equal", input, addConstant(Tensor([], [Int64(replaced)]), "replaced"))
    }
    try finish(call("Where", [isMissing, imputed, input], outputs: 1))
  }

  /// The scores of LinearRegressor and LinearClassifier: x · coefficientsᵀ + intercepts.
  private func linearScores(targets: Int) throws(QMError) -> Value {
    let input = try numbers()
    guard let coefficients = try self.numbers("coefficients"), targets >= 1, !coefficients.isEmpty,
      coefficients.count % targets == 0
    else {
      throw .malformed("the coefficients are missing or not a multiple of \(targets)")
    }
    let weights = addConstant(
      try Tensor([targets, coefficients.count / targets], coefficients), "coefficients")
    let intercepts = try self.numbers("intercepts")
    guard intercepts.map({ $0.count == targets }) ?? true else {
      throw .malformed("\(intercepts?.count ?? 0) intercepts for \(targets) targets")
    }
    let bias = try intercepts.map { (numbers) throws(QMError) in
      addConstant(try Tensor([targets], numbers), "intercepts")
    }
    return try call(
      "Gemm", [input, weights, bias], ["transB": .integer(1)], outputs: 1)[0]
  }

  /// The scores as the attribute `post_transform` asks for them.
  private func transformed(_ scores: Value) throws(QMError) -> Value {
    try transformed(scores, text("post_transform", default: "NONE"))
  }

  /// Scores as the value `name` of the attribute `post_transform` asks for them.
  func transformed(_ scores: Value, _ name: String) throws(QMError) -> Value {
    switch name {
    case "NONE": return scores
    case "SOFTMAX": return try call("Softmax", scores)
    case "LOGISTIC": return try call("Sigmoid", scores)
    case "SOFTMAX_ZERO":
      let zero = try number(0, like: scores)
      return try call("Where", call("Equal", scores, zero), zero, call("Softmax", scores))
    default:
      throw .unsupported("post_transform '\(name.abbreviated)'", remedies: .cutBefore)
    }
  }

  func linearRegressor() throws(QMError) {
    try finish([transformed(linearScores(targets: integer("targets") ?? 1))])
  }

  /// LinearClassifier with integer classes: the class of the largest score, and the scores.
  func linearClassifier() throws(QMError) {
    guard let classes = try integers("classlabels_ints"), !classes.isEmpty else {
      throw .unsupported("classes that are texts, or none", remedies: .cutBefore)
    }
    let given = try self.numbers("intercepts")?.count
    let isBinary = classes.count == 2 && (given ?? 2) == 1
    let labels = try addConstant(classes, "classes")
    let scores = try linearScores(targets: isBinary ? 1 : classes.count)
    guard isBinary else {
      let place = try call(
        "ArgMax", scores, with: ["axis": .integer(1), "keepdims": .integer(0)])
      return try finish([call("Gather", labels, place), transformed(scores)])
    }
    // One score says how much the second class is likelier.
    let flat = try call("Squeeze", scores, integers([1]))
    let isSecond = try call("Greater", flat, number(0, like: flat))
    let place = try append(.cast(Cast(to: .int64)), [isSecond], as: .int64, "place")
    let second = try transformed(scores)
    let isLogistic = try text("post_transform", default: "NONE") == "LOGISTIC"
    let first =
      try isLogistic
      ? call("Sub", number(1, like: scores), second) : call("Neg", second)
    try finish([
      call("Gather", labels, place),
      call("Concat", [first, second], ["axis": .integer(1)], outputs: 1)[0],
    ])
  }

  /// Binarizer: 1 above the threshold, else 0.
  func binarizer() throws(QMError) {
    let input = try numbers()
    let threshold = try number("threshold", default: 0)
    let isAbove = try call("Greater", input, number(Double(threshold), like: input))
    try finish(
      call("Where", [isAbove, number(1, like: input), number(0, like: input)], outputs: 1))
  }

  /// ArrayFeatureExtractor: columns of the last axis.
  func arrayFeatureExtractor() throws(QMError) {
    let input = try input(0)
    let rank = shape(input).rank
    let places = try call("Reshape", raw(1), integers([-1]))
    let columns = try call("Gather", input, places, with: ["axis": .integer(Int64(rank - 1))])
    // The definition gives a vector a leading axis.
    try finish([rank == 1 ? call("Unsqueeze", columns, integers([0])) : columns])
  }

  /// ZipMap: the tensor whose columns the maps of its result hold.
  func zipMap() throws(QMError) { try finish([raw(0)]) }

  /// LabelEncoder from numbers to numbers.
  func labelEncoder() throws(QMError) {
    let input = try input(0)
    func elements(_ what: String) throws(QMError) -> Tensor {
      if let tensor = try tensor("\(what)_tensor") { return tensor }
      if let numbers = try integers("\(what)_int64s") {
        return try Tensor([numbers.count], numbers.map(Int64.init))
      }
      if let numbers = try numbers("\(what)_floats") { return try Tensor([numbers.count], numbers) }
      throw .unsupported("\(what) that are texts, or none", remedies: .cutBefore)
    }
    let (keys, values) = (try elements("keys"), try elements("values"))
    guard keys.elementCount == values.elementCount, keys.elementCount <= 1 << 16,
      keys.elementType == input.type
        || keys.elementType.isFloatingPoint && input.type.isFloatingPoint
    else {
      throw .malformed(
        "\(keys.elementCount) keys of type \(keys.elementType) and \(values.elementCount) values for an input of type \(input.type)"
      )
    }
    let standard: Tensor
    if let tensor = try tensor("default_tensor") {
      standard = try tensor.reshaped([tensor.elementCount])
    } else if values.elementType.isFloatingPoint {
      standard = try Tensor([1], [number("default_float", default: -0.0)])
    } else {
      standard = try Tensor([1], [Int64(integer("default_int64") ?? -1)])
    }
    // The place of each element among the keys, and the last place for those that are none.
    let count = keys.elementCount
    let column = try call("Unsqueeze", input, integers([-1]))
    let flatKeys = addConstant(try keys.reshaped([count]), "keys")
    let isKey = try isEqual(column, inFloat32(flatKeys))
    let places = addConstant(
      try Tensor([count], (0..<count).map { Int64($0) }), "places")
    let none = addConstant(try Tensor([], [Int64(count)]), "none")
    let place = try call(
      "ReduceMin", call("Where", isKey, places, none), integers([-1]),
      with: ["keepdims": .integer(0)])
    let table = try call(
      "Concat",
      [addConstant(values.reshaped([count]), "values"), addConstant(standard, "default")],
      ["axis": .integer(0)], outputs: 1)[0]
    try finish(call("Gather", [table, place], outputs: 1))
  }

  /// Whether elements are equal; NaN equals NaN.
  private func isEqual(_ left: Value, _ right: Value) throws(QMError) -> Value {
    let isEqual = try call("Equal", left, right)
    guard left.type.isFloatingPoint, let tensor = constant(right), tensor.elementType == .float32,
      tensor.elements(as: Float.self).contains(where: \.isNaN)
    else { return isEqual }
    return try call("Or", isEqual, call("And", call("IsNaN", left), call("IsNaN", right)))
  }
}

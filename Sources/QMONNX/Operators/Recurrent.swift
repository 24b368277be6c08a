import QMOperations
import QMTensor

extension NodeReader {
  /// RNN, GRU and LSTM.
  func recurrent(_ kind: RecurrentKind) throws(QMError) {
    let direction: Recurrent.Direction
    switch try text("direction", default: "forward") {
    case "forward": direction = .forward
    case "reverse": direction = .reverse
    case "bidirectional": direction = .bidirectional
    case let other:
      throw .malformed(
        "direction '\(other.abbreviated)'; ONNX defines forward, reverse and bidirectional")
    }
    let cell = try cell(kind)
    let operation = Operation.recurrent(
      Recurrent(
        cell, direction: direction,
        functions: try functions(kind.defaultFunctions, directions: direction.count),
        clip: try number("clip")))

    let hasBatchFirst = try flag("layout", default: false)
    func transposed(_ value: Value?, _ suffix: String) throws(QMError) -> Value? {
      guard hasBatchFirst, let value else { return value }
      return try append(
        .transpose(Transpose(permutation: [1, 0, 2])), [value], as: value.type, suffix)
    }
    let input = try float(0)
    guard shape(input).rank == 3 else {
      throw .malformed("input \(shape(input)); expected three axes")
    }
    let weights = try matrix(1, cell, direction)
    let recurrence = try matrix(2, cell, direction)
    if let size = try integer("hidden_size"), let extent = shape(recurrence)[1].extent,
      size != extent
    {
      throw .malformed(
        "hidden_size = \(size) does not match the recurrence weights \(shape(recurrence))")
    }
    var inputs: [Value?] = [try transposed(input, "input"), weights, recurrence]
    let bias = try optionalFloat(3)
    try requireFinite(bias, "bias")
    inputs.append(bias)
    if let lengths = try optional(4) {
      guard lengths.type == .int32 else {
        throw .malformed("the sequence lengths are \(lengths.type), expected int32")
      }
      inputs.append(lengths)
    } else {
      inputs.append(nil)
    }
    inputs.append(try transposed(optionalFloat(5), "initial_h"))
    if cell.hasCellState {
      inputs.append(try transposed(optionalFloat(6), "initial_c"))
      let peepholes = try optionalFloat(7)
      try requireFinite(peepholes, "peepholes")
      inputs.append(peepholes)
    }
    try requireSameType(input, weights, recurrence, inputs[3], inputs[5])
    while let last = inputs.last, last == nil { inputs.removeLast() }

    guard hasBatchFirst else { return try finish(operation, inputs, as: input.type) }
    let places = try builder.construction.append(
      operation, name: node.label, inputs,
      outputNames: (0..<(cell.hasCellState ? 3 : 2)).map { "\(node.label)/steps:\($0)" })
    var results: [Value] = []
    for (index, place) in places.enumerated() {
      let name = index < node.outputs.count ? node.outputs[index] : ""
      results.append(
        Value(
          place: try builder.construction.append(
            .transpose(Transpose(permutation: index == 0 ? [2, 0, 1, 3] : [1, 0, 2])),
            name: "\(node.label)/output:\(index)", [Value(place: place, type: input.type)],
            outputNames: [name])[0], type: input.type))
    }
    try finish(results)
  }

  private func cell(_ kind: RecurrentKind) throws(QMError) -> Recurrent.Cell {
    switch kind {
    case .simple: return .simple
    case .gru:
      return try flag("linear_before_reset", default: false) ? .gruResetAfter : .gru
    case .lstm:
      return try flag("input_forget", default: false) ? .lstmCoupled : .lstm
    }
  }

  /// Weights `[directions, rows, columns]` as the matrix `[directions · rows, columns]`.
  private func matrix(
    _ index: Int, _ cell: Recurrent.Cell, _ direction: Recurrent.Direction
  ) throws(QMError) -> Value {
    let weights = try float(index)
    try requireFinite(weights, "weights")
    guard let extents = shape(weights).extents, extents.count == 3,
      extents[0] == direction.count, extents[1] % cell.gateCount == 0, extents[2] > 0
    else {
      throw .malformed(
        "weights \(shape(weights)) (input \(index)); expected three fixed axes of at least one element, for \(direction.count) directions and \(cell.gateCount) gates"
      )
    }
    let (rows, overflow) = extents[0].multipliedReportingOverflow(by: extents[1])
    guard !overflow else { throw .malformed("weights \(shape(weights)) have too many rows") }
    return try append(
      .reshape(Reshape()), [weights, addConstant([rows, extents[2]], "extents")],
      as: weights.type, "rows:\(index)")
  }

  // MARK: Functions

  /// The functions named by `activations`. Each takes its parameters from the front of
  /// `activation_alpha` and `activation_beta`.
  private func functions(
    _ standard: [String], directions: Int
  ) throws(QMError) -> [UnaryFunction] {
    let count = standard.count * directions
    let names = try texts("activations") ?? (0..<directions).flatMap { _ in standard }
    guard names.count == count else {
      throw .malformed("\(names.count) activations, expected \(count)")
    }
    var alphas = try (numbers("activation_alpha") ?? [])[...]
    var betas = try (numbers("activation_beta") ?? [])[...]
    for number in alphas + betas where !number.isFinite {
      throw .malformed("a parameter of an activation is \(number), expected a finite number")
    }
    func alpha(_ standard: Float) -> Float { alphas.popFirst() ?? standard }
    func beta(_ standard: Float) -> Float { betas.popFirst() ?? standard }
    var functions: [UnaryFunction] = []
    for name in names {
      switch name.lowercased() {
      case "relu": functions.append(.relu)
      case "tanh": functions.append(.tanh)
      case "sigmoid": functions.append(.sigmoid)
      case "softsign": functions.append(.softsign)
      case "softplus": functions.append(.softplus)
      case "affine": functions.append(.affine(scale: alpha(1), offset: beta(0)))
      case "leakyrelu": functions.append(.leakyRelu(slope: alpha(0.01)))
      case "thresholdedrelu": functions.append(.thresholdedRelu(threshold: alpha(1)))
      case "hardsigmoid": functions.append(.hardSigmoid(alpha: alpha(0.2), beta: beta(0.5)))
      case "elu": functions.append(.elu(alpha: alpha(1)))
      case "scaledtanh":
        throw .unsupported("activation ScaledTanh cannot be read", remedies: .cutBefore)
      default: throw .malformed("activation '\(name.abbreviated)', which ONNX does not define")
      }
    }
    return functions
  }
}

/// ONNX's recurrent operators.
enum RecurrentKind {
  case simple, gru, lstm

  var defaultFunctions: [String] {
    switch self {
    case .simple: ["Tanh"]
    case .gru: ["Sigmoid", "Tanh"]
    case .lstm: ["Sigmoid", "Tanh", "Tanh"]
    }
  }
}

import QMOperations
import QMTensor

extension Program {
  /// Proves what a reader of the program relies on: every number in range, every value defined
  /// once and before it is read, names unique, every type what the type rules say, grids usable,
  /// codes within their width, integer accumulators within 32 bits.
  ///
  /// What depends on the data of a run is left to the run: indices of a gather, computed extents,
  /// and extents that are declared where the type rules leave them free.
  /// - Throws: `malformed` with the node or value; `unsupported` where an operation is consistent and
  ///   this version does not compute it.
  public func validate(limits: DecodingLimits = .standard) throws(QMError) {
    try validateNumbering(limits)
    for (index, value) in values.enumerated() {
      try within(.value(displayName(ofValue: index))) { () throws(QMError) in
        try Program.validate(value.type, limits)
      }
    }
    for index in inputs {
      switch values[index].type.quantization {
      case .none, .fixed: break
      case .dynamic, .weights:
        throw .malformed(
          "input '\(values[index].name.abbreviated)' is quantized as only inner values can be")
      }
    }
    for (index, constant) in constants.enumerated() {
      try within(.value(displayName(ofValue: inputs.count + index))) { () throws(QMError) in
        try constant.validate(typeOfValue: values[inputs.count + index].type)
      }
    }
    for node in nodes {
      try within(node.context) { () throws(QMError) in try validate(node) }
    }
    try validateNames(limits)
    try validateMetadata(limits)
  }

  private func displayName(ofValue index: Int) -> String {
    values[index].name.isEmpty ? "number \(index)" : values[index].name
  }

  // MARK: Numbers and names

  private func validateNumbering(_ limits: DecodingLimits) throws(QMError) {
    guard nodes.count <= limits.nodeCount, values.count <= limits.valueCount,
      inputs.count <= limits.operandCount, outputs.count <= limits.operandCount
    else {
      throw .malformed(
        "\(nodes.count) nodes, \(values.count) values, \(inputs.count) inputs and "
          + "\(outputs.count) outputs are more than a program may have")
    }
    var next = inputs.count + constants.count
    guard inputs.elementsEqual(0..<inputs.count), next <= values.count else {
      throw .malformed("the inputs and constants are not the first values")
    }
    for (index, value) in values.enumerated() {
      let constant = index - inputs.count
      guard value.constant == (constants.indices.contains(constant) ? constant : nil) else {
        throw .malformed(
          "value \(index) is constant \(value.constant.map(String.init) ?? "none") by its own word "
            + "and another by its number")
      }
    }
    for node in nodes {
      try within(node.context) { () throws(QMError) in
        guard node.inputs.count <= limits.operandCount, node.outputs.count <= limits.operandCount
        else {
          throw .malformed(
            "\(node.inputs.count) inputs and \(node.outputs.count) outputs, too many")
        }
        for case .some(let input) in node.inputs where !(0..<next).contains(input) {
          throw .malformed("value \(input) is read before it is defined; \(next) values are")
        }
        guard node.outputs.elementsEqual(next..<next + node.outputs.count),
          !node.outputs.isEmpty
        else {
          throw .malformed("the outputs are values \(node.outputs), expected \(next) and following")
        }
        next += node.outputs.count
      }
    }
    guard next == values.count else {
      throw .malformed("\(values.count) values, of which \(next) are defined")
    }
    guard !outputs.isEmpty else { throw .malformed("the program has no outputs") }
    for output in outputs where !values.indices.contains(output.value) {
      throw .malformed(
        "output '\(output.name.abbreviated)' is value \(output.value), which is none")
    }
  }

  private func validateNames(_ limits: DecodingLimits) throws(QMError) {
    for (what, names) in [
      ("inputs", inputs.map { values[$0].name }), ("outputs", outputs.map(\.name)),
    ] {
      guard !names.contains("") else { throw .malformed("one of the \(what) has no name") }
      guard Set(names).count == names.count else {
        throw .malformed("two \(what) have one name")
      }
    }
    for name in values.lazy.map(\.name) where name.utf8.count > limits.stringByteCount {
      throw .malformed("the name of value '\(name.abbreviated)' is too long")
    }
    for name in nodes.lazy.map(\.name) + outputs.map(\.name)
    where name.utf8.count > limits.stringByteCount {
      throw .malformed("the name '\(name.abbreviated)' is too long")
    }
  }

  private func validateMetadata(_ limits: DecodingLimits) throws(QMError) {
    guard [0, 32].contains(metadata.sourceDigest.count) else {
      throw .malformed("a SHA-256 has 32 bytes, found \(metadata.sourceDigest.count)")
    }
    for measurement in metadata.measurements {
      guard outputs.indices.contains(measurement.output), !measurement.value.isNaN,
        measurement.sampleCount >= 0
      else {
        throw .malformed(
          "a measurement of output \(measurement.output) is of no output or no number")
      }
    }
    for (what, found, expected) in [
      ("keys of inputs", metadata.inputKeys.count, inputs.count),
      ("keys of outputs", metadata.outputKeys.count, outputs.count),
      ("notes on nodes", metadata.notes.count, nodes.count),
    ] where found != 0 && found != expected {
      throw .malformed("\(found) \(what), expected \(expected) or none")
    }
    let entries = metadata.recipe + metadata.entries
    let texts =
      [metadata.producer, metadata.sourceName] + metadata.inputKeys + metadata.outputKeys
      + metadata.notes.map(\.reason) + entries.map(\.key) + entries.map(\.value)
    for text in texts where text.utf8.count > limits.stringByteCount {
      throw .malformed("the metadata '\(text.abbreviated)' is too long")
    }
  }

  // MARK: Types

  /// Products of so many extents and element sizes stay far from overflow.
  private static let largestElementCount = 1 << 48

  private static func validate(_ type: ValueType, _ limits: DecodingLimits) throws(QMError) {
    guard type.shape.rank <= limits.rank else {
      throw .malformed("\(type.shape.rank) axes, at most \(limits.rank) are accepted")
    }
    // Extents of 0 must not hide others from the product.
    let extents = type.shape.axes.compactMap(\.extent)
    guard extents.allSatisfy({ (0...largestElementCount).contains($0) }),
      let count = Shape.elementCount(of: extents.map { max($0, 1) }), count <= largestElementCount
    else { throw .malformed("extents \(type.shape) are too many elements") }
    switch type.quantization {
    case .none: break
    case .fixed(let scale, let zeroPoint):
      try QuantizationParameters(type.elementType, scale: scale, zeroPoint: zeroPoint).check()
    case .dynamic(let axes):
      guard type.elementType == .int8, (0...type.shape.rank).contains(axes) else {
        throw .malformed("\(type.elementType)\(type.shape) cannot have grids along \(axes) axes")
      }
    case .weights(_, let granularity):
      let axis: Int
      switch granularity {
      case .perTensor: axis = 0
      case .perChannel(let channels): axis = channels
      case .perGroup(let groups, let size):
        axis = groups
        guard size > 0 else { throw .malformed("groups of \(size) elements") }
      }
      guard type.elementType == .int8, axis == 0 || (0..<type.shape.rank).contains(axis) else {
        throw .malformed("\(type.elementType)\(type.shape) cannot have scales along axis \(axis)")
      }
    }
  }

  private func operand(_ index: Int) -> Operand {
    Operand(values[index].type, constant: values[index].constant.map { constants[$0].tensor })
  }

  private func validate(_ node: Node) throws(QMError) {
    try node.operation.body.checkAttributes()
    // Before the type rule makes as many types.
    if case .split(let split) = node.operation, case .equal(let parts) = split.sizes {
      guard parts == node.outputs.count else {
        throw .malformed("\(parts) parts, \(node.outputs.count) outputs")
      }
    }
    let operands = node.inputs.map { $0.map(operand) }
    let derived = try node.operation.body.outputTypes(for: operands)
    guard derived.count == node.outputs.count else {
      throw .malformed("\(node.outputs.count) outputs, expected \(derived.count)")
    }
    for (output, derived) in zip(node.outputs, derived) {
      guard values[output].type.isConsistent(with: derived) else {
        throw .malformed(
          "output '\(displayName(ofValue: output))' is declared as \(values[output].type), the "
            + "operation gives \(derived)")
      }
    }
    for sum in node.operation.body.accumulators.products {
      try validateScales(operands, codes: sum.weights, scales: sum.scales, input: sum.input)
      try AccumulatorBound.prove(sum, operands)
    }
    if case .dequantize = node.operation {
      try validateScales(operands, codes: 0, scales: 1, input: nil)
    }
  }

  /// The scales of weights are positive and normal, and so are their products with the scale of an
  /// input on fixed quantization parameters. Numbers are positions of operands.
  private func validateScales(
    _ operands: [Operand?], codes: Int, scales: Int, input: Int?
  ) throws(QMError) {
    guard let codes = operands.at(codes), case .weights = codes.type.quantization else { return }
    var inputScale: Float = 1
    if case .fixed(let scale, _) = input.flatMap({ operands.at($0) })?.type.quantization {
      inputScale = scale
    }
    guard let tensor = operands.at(scales)?.constant, tensor.elementType == .float32 else {
      throw .malformed("the scales of weights must be a float32 constant")
    }
    for scale: Float in tensor.elements() {
      guard scale > 0, scale.isNormal, (scale * inputScale).isNormal else {
        throw .malformed(
          "a scale of weights must be positive and normal, and its product with the input's "
            + "\(inputScale) too, found \(scale)")
      }
    }
  }
}

extension Program.Constant {
  fileprivate func validate(typeOfValue: ValueType) throws(QMError) {
    guard typeOfValue == type else {
      throw .malformed("the value is \(typeOfValue), its elements are \(type)")
    }
    switch quantization {
    case .none, .fixed: break
    case .dynamic: throw .malformed("a constant has no scale of the run")
    case .weights(let bits, _):
      let allowed = bits.allCodes
      guard bits < .eight else { break }
      let half = UInt8(1) << (bits.bits - 1)
      let isWithin = tensor.withElements(as: Int8.self) { codes in
        // A bit that no code from 0 on has.
        codes.reduce(0) { $0 | (UInt8(bitPattern: $1) &+ half) } < 2 * half
      }
      guard isWithin else {
        throw .malformed("a code is beyond \(bits.bits) bits, \(allowed)")
      }
    }
    // Swift may read a Bool only where the byte is 0 or 1.
    if tensor.elementType == .bool, tensor.bytes.contains(where: { $0 > 1 }) {
      throw .malformed("a truth value is neither 0 nor 1")
    }
  }
}

extension ValueType {
  /// Whether a value that a type rule says to be `derived` may be declared as this. Where the rule
  /// leaves an axis free, the declaration may know more; the run checks it.
  fileprivate func isConsistent(with derived: ValueType) -> Bool {
    elementType == derived.elementType && quantization == derived.quantization
      && shape.rank == derived.shape.rank
      && zip(shape.axes, derived.shape.axes).allSatisfy { declared, derived in
        derived.extent == nil || declared.extent == derived.extent
      }
  }
}

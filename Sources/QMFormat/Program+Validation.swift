import QMOperations
import QMTensor

extension Program {
  /// Proves everything that code which runs the program relies on: numbers are in range; every
  /// value is defined once and before it is read; names are unique; types agree with the type rules
  /// of the operations; scales and zero points are valid; codes fit their width; integer
  /// accumulators stay within 32 bits.
  ///
  /// What depends on the data of a run is checked in the run: the indices of a gather, computed
  /// extents, and declared extents of axes that the type rules leave dynamic.
  /// - Throws: `malformed` with the node or value as context; `unsupported` if this version does
  ///   not compute a valid operation.
  public func validate(limits: DecodingLimits = .standard) throws(QMError) {
    try validate(limits, elements: true)
  }

  /// Proves what ``validate(limits:)`` proves and the elements of constants have no part in.
  package func validateWithoutElements(
    limits: DecodingLimits = .standard
  ) throws(QMError) {
    try validate(limits, elements: false)
  }

  private func validate(_ limits: DecodingLimits, elements: Bool) throws(QMError) {
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
          "input '\(values[index].name.abbreviated)' has dynamic or weights quantization, expected "
            + "none or fixed")
      }
    }
    for (index, constant) in constants.enumerated() {
      try within(.value(displayName(ofValue: inputs.count + index))) { () throws(QMError) in
        try constant.validate(typeOfValue: values[inputs.count + index].type)
        if elements { try constant.validateElements() }
      }
    }
    for node in nodes {
      try within(node.context) { () throws(QMError) in
        try validateTypes(node, elements: elements)
        if elements { try validateSums(node) }
      }
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
          + "\(outputs.count) outputs exceed the limits")
    }
    var next = inputs.count + constants.count
    guard inputs.elementsEqual(0..<inputs.count), next <= values.count else {
      throw .malformed("the inputs and constants are not the first values")
    }
    for (index, value) in values.enumerated() {
      let constant = index - inputs.count
      let expected = constants.indices.contains(constant) ? constant : nil
      guard value.constant == expected else {
        func name(_ constant: Int?) -> String { constant.map { "constant \($0)" } ?? "no constant" }
        throw .malformed(
          "value \(index) claims to be \(name(value.constant)); by its position it is "
            + name(expected))
      }
    }
    for node in nodes {
      try within(node.context) { () throws(QMError) in
        guard node.inputs.count <= limits.operandCount, node.outputs.count <= limits.operandCount
        else {
          throw .malformed(
            "\(node.inputs.count) inputs and \(node.outputs.count) outputs, the limit for each is "
              + "\(limits.operandCount)")
        }
        for case .some(let input) in node.inputs where !(0..<next).contains(input) {
          throw .malformed("reads value \(input), but only values below \(next) are defined here")
        }
        guard node.outputs.elementsEqual(next..<next + node.outputs.count),
          !node.outputs.isEmpty
        else {
          throw .malformed(
            "the outputs are values \(node.outputs), expected one or more from \(next) on")
        }
        next += node.outputs.count
      }
    }
    guard next == values.count else {
      throw .malformed("only \(next) of \(values.count) values are defined")
    }
    guard !outputs.isEmpty else { throw .malformed("the program has no outputs") }
    for output in outputs where !values.indices.contains(output.value) {
      throw .malformed(
        "output '\(output.name.abbreviated)' is value \(output.value) of \(values.count)")
    }
  }

  private func validateNames(_ limits: DecodingLimits) throws(QMError) {
    for (what, names) in [
      ("inputs", inputs.map { values[$0].name }), ("outputs", outputs.map(\.name)),
    ] {
      guard !names.contains("") else { throw .malformed("one of the \(what) has no name") }
      guard Set(names).count == names.count else {
        throw .malformed("two \(what) have the same name")
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
      throw .malformed(
        "the source digest has \(metadata.sourceDigest.count) bytes, expected 32 or none")
    }
    for measurement in metadata.measurements {
      guard outputs.indices.contains(measurement.output), !measurement.value.isNaN,
        measurement.sampleCount >= 0, measurement.part.map({ $0.axis <= 0 }) ?? true
      else {
        throw .malformed(
          "a measurement names output \(measurement.output) of \(outputs.count), or its value, "
            + "part or number of samples is invalid")
      }
    }
    for (what, found, expected) in [
      ("input keys", metadata.inputKeys.count, inputs.count),
      ("output keys", metadata.outputKeys.count, outputs.count),
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

  /// Small enough that sizes in bytes stay far from overflow.
  private static let largestElementCount = 1 << 48

  private static func validate(_ type: ValueType, _ limits: DecodingLimits) throws(QMError) {
    guard type.shape.rank <= limits.rank else {
      throw .malformed("\(type.shape.rank) axes, the limit is \(limits.rank)")
    }
    // Extents of 0 count as 1, so that they do not hide other extents.
    let extents = type.shape.axes.compactMap(\.extent)
    guard extents.allSatisfy({ (0...largestElementCount).contains($0) }),
      let count = Shape.elementCount(of: extents.map { max($0, 1) }), count <= largestElementCount
    else {
      throw .malformed("shape \(type.shape) has more than \(largestElementCount) elements")
    }
    switch type.quantization {
    case .none: break
    case .fixed(let scale, let zeroPoint):
      try QuantizationParameters(type.elementType, scale: scale, zeroPoint: zeroPoint).check()
    case .dynamic(let axes):
      guard type.elementType == .int8, (0...type.shape.rank).contains(axes) else {
        throw .malformed(
          "\(type.elementType)\(type.shape) cannot be quantized dynamically over \(axes) axes")
      }
    case .weights(_, let granularity):
      let axis: Int
      switch granularity {
      case .perTensor: axis = 0
      case .perChannel(let channels): axis = channels
      case .perGroup(let groups, let size):
        axis = groups
        guard size > 0 else { throw .malformed("a group size of \(size), expected at least 1") }
      }
      guard type.elementType == .int8, axis == 0 || (0..<type.shape.rank).contains(axis) else {
        throw .malformed("\(type.elementType)\(type.shape) cannot have scales along axis \(axis)")
      }
    }
  }

  private func operand(_ index: Int) -> Operand {
    Operand(values[index].type, constant: values[index].constant.map { constants[$0].tensor })
  }

  private func validateTypes(_ node: Node, elements: Bool) throws(QMError) {
    try node.operation.body.checkAttributes()
    // Checked first, because the type rule allocates as many types as there are parts.
    if case .split(let split) = node.operation, case .equal(let parts) = split.sizes {
      guard parts == node.outputs.count else {
        throw .malformed("\(node.outputs.count) outputs, expected \(parts)")
      }
    }
    let operands = node.inputs.map { input in
      input.map { elements ? operand($0) : Operand(values[$0].type) }
    }
    let derived = try node.operation.body.outputTypes(for: operands)
    guard derived.count == node.outputs.count else {
      throw .malformed("\(node.outputs.count) outputs, expected \(derived.count)")
    }
    for (output, derived) in zip(node.outputs, derived) {
      guard values[output].type.isConsistent(with: derived) else {
        throw .malformed(
          "output '\(displayName(ofValue: output))' is declared as \(values[output].type), expected "
            + "\(derived)")
      }
    }
  }

  private func validateSums(_ node: Node) throws(QMError) {
    let operands = node.inputs.map { $0.map(operand) }
    for sum in node.operation.body.accumulators.products {
      try validateScales(operands, codes: sum.weights, scales: sum.scales, input: sum.input)
      try AccumulatorBound.prove(sum, operands)
    }
    if case .dequantize = node.operation {
      try validateScales(operands, codes: 0, scales: 1, input: nil)
    }
  }

  /// Checks that weight scales are positive normal numbers, and also their products with the scale
  /// of an input with fixed quantization. `codes`, `scales` and `input` are positions in
  /// `operands`.
  private func validateScales(
    _ operands: [Operand?], codes: Int, scales: Int, input: Int?
  ) throws(QMError) {
    guard let codes = operands.at(codes), case .weights = codes.type.quantization else { return }
    var inputScale: Float = 1
    if case .fixed(let scale, _) = input.flatMap({ operands.at($0) })?.type.quantization {
      inputScale = scale
    }
    guard let tensor = operands.at(scales)?.constant, tensor.elementType == .float32 else {
      throw .malformed("the weight scales must be a float32 constant")
    }
    for scale: Float in tensor.elements() {
      guard scale > 0, scale.isNormal, (scale * inputScale).isNormal else {
        throw .malformed(
          "weight scale \(scale) and its product with the input scale \(inputScale) must be "
            + "positive normal numbers")
      }
    }
  }
}

extension Program.Constant {
  fileprivate func validate(typeOfValue: ValueType) throws(QMError) {
    guard typeOfValue == type else {
      throw .malformed("the value is declared as \(typeOfValue), its constant is \(type)")
    }
    if case .dynamic = quantization {
      throw .malformed("a constant cannot have dynamic quantization")
    }
  }

  fileprivate func validateElements() throws(QMError) {
    if case .weights(let bits, _) = quantization, bits < .eight {
      let allowed = bits.allCodes
      let half = UInt8(1) << (bits.bits - 1)
      let isWithin = tensor.withElements(as: Int8.self) { codes in
        // Codes within the width, shifted to start at 0, have no bit above the width.
        codes.reduce(0) { $0 | (UInt8(bitPattern: $1) &+ half) } < 2 * half
      }
      guard isWithin else {
        throw .malformed("a code is outside \(allowed), the range of \(bits.bits) bits")
      }
    }
    // Reading any other byte as a Swift Bool is undefined.
    if tensor.elementType == .bool, tensor.bytes.contains(where: { $0 > 1 }) {
      throw .malformed("a bool element is neither 0 nor 1")
    }
  }
}

extension ValueType {
  /// Whether this type may be declared for a value whose type rule gives `derived`. The declaration
  /// may fix an axis that the rule leaves dynamic; the run checks it.
  fileprivate func isConsistent(with derived: ValueType) -> Bool {
    elementType == derived.elementType && quantization == derived.quantization
      && shape.rank == derived.shape.rank
      && zip(shape.axes, derived.shape.axes).allSatisfy { declared, derived in
        derived.extent == nil || declared.extent == derived.extent
      }
  }
}

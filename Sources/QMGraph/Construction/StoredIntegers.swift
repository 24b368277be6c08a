import QMOperations
import QMTensor

extension GraphConstruction {
  /// The integers that the file declares, for codes of a Quantize; any other value unchanged.
  ///
  /// Codes that are declared uint8 or uint16 are kept as int8 or int16, half the range lower.
  public mutating func integers(_ value: Value) throws(QMError) -> Value {
    guard isCodes(value) else { return value }
    if let known = knownIntegers[value.place] { return known }
    let name = "\(self.name(of: value))/integers"
    func step(
      _ operation: Operation, _ inputs: [Value], _ type: ElementType, _ suffix: String
    ) throws(QMError) -> Value {
      let place = try add(
        operation, name: name + suffix, inputs, outputNames: [name + suffix])[0]
      return Value(place: place, type: type)
    }
    var wide = try step(.cast(Cast(to: .int32)), [value], .int32, "/int32")
    let shift: Int32 = value.type == .uint8 ? 128 : value.type == .uint16 ? 32768 : 0
    if shift != 0 {
      let constant = addConstant(name: name + "/shift", try Tensor([], [shift]))
      wide = try step(.binary(Binary(.add)), [wide, constant], .int32, "/shifted")
    }
    let result = try step(.cast(Cast(to: value.type)), [wide], value.type, "")
    knownIntegers[value.place] = result
    return result
  }

  /// The inputs as the operation must read them: codes stay codes where they are only moved,
  /// compared with each other, or dequantized.
  mutating func withIntegers(
    _ operation: Operation, _ inputs: [Value?]
  ) throws(QMError) -> [Value?] {
    guard inputs.contains(where: { $0.map(isCodes) ?? false }), !readsCodes(operation, inputs)
    else { return inputs }
    var result: [Value?] = []
    for input in inputs {
      result.append(try input.map { (value) throws(QMError) in try integers(value) })
    }
    return result
  }

  private func isCodes(_ value: Value) -> Bool { type(of: value).quantization != .none }

  private func isDynamic(_ value: Value) -> Bool {
    if case .dynamic = type(of: value).quantization { true } else { false }
  }

  private func readsCodes(_ operation: Operation, _ inputs: [Value?]) -> Bool {
    switch operation {
    case .dequantize, .shape: return true
    case _ where inputs.contains(where: { $0.map(isDynamic) ?? false }): return false
    case .pooling(let pooling) where pooling.kind == .maximum: return true
    // They fill with an integer, by default 0, which need not be the code for 0.
    case .trilu: return false
    case .pad(let pad) where pad.mode == .constant: return false
    default: break
    }
    guard case .moved(let sources) = operation.body.elementSource(operandCount: inputs.count)
    else { return false }
    let types = sources.compactMap { inputs[$0].map { type(of: $0) } }
    return types.allSatisfy {
      $0.quantization == types[0].quantization && $0.elementType == types[0].elementType
    }
  }
}

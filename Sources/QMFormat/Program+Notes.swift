import QMOperations
import QMTensor

extension Program {
  /// How a node runs, and why; both follow from the types of its operands.
  public func note(of node: Node) -> Metadata.Note {
    Program.note(of: node, among: values)
  }

  static func note(of node: Node, among values: [Value]) -> Metadata.Note {
    let inputs = node.inputs.map { $0.map { values[$0].type } }
    let outputs = node.outputs.map { values[$0].type }
    switch node.operation {
    case .convolution, .matrixMultiply: return productNote(inputs)
    case .recurrent: return recurrentNote(inputs)
    case .table: return .init(.table, reason: "256 entries")
    case .quantize:
      return .init(.float, reason: "quantizes float32 with a fixed scale and zero point")
    case .dynamicQuantize:
      return .init(.float, reason: "quantizes float32 dynamically")
    case .dequantize: return .init(.float, reason: "dequantizes codes to float32")
    case .loop(let loop):
      return .init(.float, reason: "a loop of \(loop.nodes.count) nodes in float32")
    // For all other operations, the properties below determine the note.
    default: break
    }
    let body = node.operation.body
    switch body.elementSource(operandCount: inputs.count) {
    case .moved, .positions:
      return .init(.move, reason: outputs.first.map { moved($0) } ?? "")
    case .picked, .computed: break
    }
    guard let input = inputs.first ?? nil else { return .init(.float) }
    if input.quantization != .none {
      return .init(.integer, reason: "reads codes, writes \(stored(outputs.first))")
    }
    if !input.elementType.isFloatingPoint {
      return .init(.move, reason: "shape arithmetic in \(input.elementType)")
    }
    return .init(.float, reason: "its input is \(input.elementType)")
  }

  private static func productNote(_ inputs: [ValueType?]) -> Metadata.Note {
    guard inputs.count > ProductOperand.weights, let input = inputs[ProductOperand.input],
      let weights = inputs[ProductOperand.weights]
    else { return .init(.float) }
    let kind: String
    switch weights.quantization {
    case .weights(let bits, let granularity):
      kind = "\(bits.bits)-bit weights \(granularity.shortDescription)"
    case .fixed: kind = "\(weights.elementType) activations on both sides"
    case .none, .dynamic: kind = "\(weights.elementType) weights"
    }
    switch input.quantization {
    case .fixed: return .init(.integer, reason: "\(kind), \(input.elementType) input")
    case .dynamic:
      return .init(
        .integer, reason: "\(kind), \(input.elementType) input quantized dynamically")
    case .none, .weights: return .init(.float, reason: "\(kind), \(input.elementType) input")
    }
  }

  private static func recurrentNote(_ inputs: [ValueType?]) -> Metadata.Note {
    guard inputs.count > RecurrentOperand.recurrence,
      let recurrence = inputs[RecurrentOperand.recurrence],
      let weights = inputs[RecurrentOperand.weights]
    else { return .init(.float) }
    guard case .weights(let bits, let granularity) = weights.quantization,
      case .weights(let stateBits, _) = recurrence.quantization
    else { return .init(.float, reason: "\(weights.elementType) weights") }
    let width = bits == stateBits ? "\(bits.bits)" : "\(bits.bits)- and \(stateBits.bits)"
    return .init(
      .integer,
      reason:
        "\(width)-bit weights \(granularity.shortDescription), int8 input and state quantized in each step"
    )
  }

  private static func moved(_ type: ValueType) -> String { "moves \(stored(type))" }

  private static func stored(_ type: ValueType?) -> String {
    guard let type else { return "nothing" }
    return type.quantization == .none ? "\(type.elementType)" : "\(type.elementType) codes"
  }
}

extension ProgramListing {
  /// How a node runs, and why.
  public func note(of node: Program.Node) -> Program.Metadata.Note {
    Program.note(of: node, among: values)
  }
}

extension Granularity {
  /// `per tensor`, `per channel`, `per group of 32`.
  public var shortDescription: String {
    switch self {
    case .perTensor: "per tensor"
    case .perChannel: "per channel"
    case .perGroup(_, let size): "per group of \(size)"
    }
  }
}

import QMFormat
import QMOperations
import QMTensor

extension Program {
  /// Maximum number of elements of a switch input: a sampling rate, a flag, a few counts.
  private static let largestSwitch = 16

  /// Positions of the switch inputs: small integer and bool inputs from which the condition of an
  /// If is computed, if it depends on nothing but such inputs, constants and shapes. A run is
  /// planned for their content, so that only the chosen branch is planned.
  package var switchInputs: [Int] {
    let conditions = nodes.compactMap { node -> Int? in
      if case .if = node.operation { node.inputs[0] } else { nil }
    }
    guard !conditions.isEmpty else { return [] }
    var isDecided = values.map { $0.constant != nil }
    for input in inputs { isDecided[input] = Program.canSwitch(values[input].type) }
    var producers = [Int?](repeating: nil, count: values.count)
    for (index, node) in nodes.enumerated() {
      let isKnown =
        node.readsShapeOnly || node.inputs.allSatisfy { $0.map { isDecided[$0] } ?? true }
      for output in node.outputs {
        isDecided[output] = isKnown
        producers[output] = index
      }
    }
    var seen: Set<Int> = []
    var pending = conditions.filter { isDecided[$0] }
    while let value = pending.popLast() {
      guard seen.insert(value).inserted, let producer = producers[value],
        !nodes[producer].readsShapeOnly
      else { continue }
      pending += nodes[producer].inputs.compactMap { $0 }
    }
    return inputs.filter(seen.contains)
  }

  private static func canSwitch(_ type: ValueType) -> Bool {
    guard type.elementType.isInteger || type.elementType == .bool, type.quantization == .none,
      let count = type.shape.extents.flatMap(Shape.elementCount(of:))
    else { return false }
    return count <= largestSwitch
  }
}

extension Program.Node {
  /// Whether the node reads the shape of its input, but not its elements.
  fileprivate var readsShapeOnly: Bool {
    if case .shape = operation { true } else { false }
  }
}

import QMFormat
import QMOperations
import QMTensor

extension Program {
  /// Elements that an input may have to choose branches: a rate, a flag, a few counts.
  private static let largestSwitch = 16

  /// Positions of the small integer and bool inputs that the condition of an If is computed
  /// from, where it is computed from nothing else but such inputs, constants and extents. A run is
  /// planned for what they hold, so that only the chosen branch is.
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
        node.readsExtentsOnly || node.inputs.allSatisfy { $0.map { isDecided[$0] } ?? true }
      for output in node.outputs {
        isDecided[output] = isKnown
        producers[output] = index
      }
    }
    var seen: Set<Int> = []
    var pending = conditions.filter { isDecided[$0] }
    while let value = pending.popLast() {
      guard seen.insert(value).inserted, let producer = producers[value],
        !nodes[producer].readsExtentsOnly
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
  fileprivate var readsExtentsOnly: Bool {
    if case .shape = operation { true } else { false }
  }
}

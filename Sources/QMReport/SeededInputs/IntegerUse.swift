import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// What a network does with the elements of an integer input, as far as its nodes show it.
enum IntegerUse: Hashable {
  /// They select among this many: rows of a table, or classes of a one-hot code.
  case indices(below: Int)
  /// They are compared for equality with these numbers.
  case choice(of: [Int64])
  /// Something else.
  case unknown

  /// The use of an input, followed through data movement and casts.
  init(of input: Int, in model: Model) {
    let program = model.program
    var same: Set<Int> = [input]
    var bound = Int.max
    var compared: Set<Int64> = []
    for node in program.nodes {
      let operands = node.inputs.enumerated().filter { $0.element.map(same.contains) ?? false }
        .map(\.offset)
      guard !operands.isEmpty else { continue }
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      switch node.operation {
      case .gather(let gather):
        if operands.contains(1), let table = node.inputs[0],
          let rows = program.values[table].type.shape[gather.axis].extent
        {
          bound = min(bound, rows)
        }
      case .oneHot:
        if operands.contains(0), let depth = model.integers(node.inputs[1])?.first {
          bound = min(bound, Int(clamping: depth))
        }
      case .comparison(let comparison) where comparison.function == .equal:
        let other = node.inputs[1 - operands[0]]
        guard let numbers = model.integers(other) else { continue }
        // Against 0, 1, 2, … the comparison makes a one-hot code.
        if numbers.count > 1 {
          bound = min(bound, numbers.count)
        } else {
          compared.formUnion(numbers)
        }
      case .cast: same.formUnion(node.outputs)
      default: if case .moved = source { same.formUnion(node.outputs) }
      }
    }
    if bound > 0, bound < Int.max {
      self = .indices(below: bound)
    } else if !compared.isEmpty {
      self = .choice(of: compared.sorted())
    } else {
      self = .unknown
    }
  }
}

extension Model {
  /// The elements of a constant, if they are whole numbers.
  fileprivate func integers(_ value: Int?) -> [Int64]? {
    guard let tensor = value.flatMap(constant) else { return nil }
    if tensor.elementType == .float32 {
      let isWhole = tensor.elements(as: Float.self).allSatisfy {
        $0 == $0.rounded() && abs($0) < 0x1p24
      }
      guard isWhole else { return nil }
    }
    return try? tensor.converted(to: .int64).elements(as: Int64.self)
  }
}

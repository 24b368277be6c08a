import QMFormat
import QMOperations
import QMTensor

/// A program under construction: inputs first, then constants, then nodes.
struct ProgramBuilder {
  private var values: [Program.Value] = []
  private var constants: [Program.Constant] = []
  private var nodes: [Program.Node] = []
  private var inputs: [Int] = []

  mutating func input(_ name: String, _ elementType: ElementType, _ shape: Shape) -> Int {
    precondition(constants.isEmpty && nodes.isEmpty)
    values.append(Program.Value(ValueType(elementType, shape), name: name))
    inputs.append(values.count - 1)
    return values.count - 1
  }

  mutating func constant(_ tensor: Tensor) -> Int {
    precondition(nodes.isEmpty)
    let type = ValueType(tensor.elementType, Shape(tensor.shape))
    values.append(
      Program.Value(type, name: "c\(constants.count)", constant: constants.count))
    constants.append(Program.Constant(tensor))
    return values.count - 1
  }

  mutating func constant(_ integers: [Int64]) throws -> Int {
    constant(try Tensor([integers.count], integers))
  }

  /// The first output of a node with the types that its rule gives.
  mutating func append(_ operation: Operation, _ inputs: [Int?]) throws -> Int {
    let operands = inputs.map { input in
      input.map {
        Operand(values[$0].type, constant: values[$0].constant.map { constants[$0].tensor })
      }
    }
    let first = values.count
    for type in try operation.body.outputTypes(for: operands) {
      values.append(Program.Value(type, name: "v\(values.count)"))
    }
    nodes.append(
      Program.Node(
        operation, name: "n\(nodes.count)", inputs: inputs, outputs: Array(first..<values.count)))
    return first
  }

  func program(_ outputs: [String: Int]) -> Program {
    Program(
      values: values, constants: constants, nodes: nodes, inputs: inputs,
      outputs: outputs.sorted { $0.key < $1.key }.map {
        Program.Output(name: $0.key, value: $0.value)
      })
  }
}

import QMFormat
import QMOperations
import QMTensor

/// A graph as a program, and the number of each of its values there.
public struct FlattenedGraph: Sendable {
  /// The program that computes the graph.
  public let program: Program
  /// The program's number of each value; constants that nothing reads have none.
  public let numbers: [Graph.ValueID: Int]
}

extension Graph {
  /// The program that computes this graph. Values are numbered: inputs first, then constants, then
  /// the outputs of the nodes. Constants that nothing reads are left out; equal ones are stored
  /// once. They have no names, nor have the codes that a Quantize makes: nothing asks for them by name,
  /// and small files hold many. The functions of lookup tables go to the metadata.
  public func flattened(metadata: Program.Metadata = .init()) -> FlattenedGraph {
    var numbers: [ValueID: Int] = [:]
    var programValues: [Program.Value] = []
    var constants: [Program.Constant] = []
    for input in inputs {
      numbers[input] = programValues.count
      programValues.append(Program.Value(self[input].type, name: self[input].name))
    }

    var used: [ValueID] = []
    var isUsed: Set<ValueID> = []
    for value in nodes.flatMap(\.inputs).compactMap({ $0 }) + outputs.map(\.value)
    where self[value].constant != nil && isUsed.insert(value).inserted {
      used.append(value)
    }
    /// Numbers of the constants that may equal each other.
    var known: [ConstantKey: [Int]] = [:]
    for value in used {
      guard let tensor = self[value].constant else { continue }
      let constant = Program.Constant(tensor, self[value].type.quantization)
      let key = ConstantKey(constant)
      if let number = known[key]?.first(where: { constants[$0] == constant }) {
        numbers[value] = inputs.count + number
        continue
      }
      known[key, default: []].append(constants.count)
      numbers[value] = programValues.count
      programValues.append(
        Program.Value(constant.type, constant: constants.count))
      constants.append(constant)
    }

    var programNodes: [Program.Node] = []
    var tables: [[UnaryFunction]?] = []
    for node in nodes {
      var operation = node.operation
      if case .table(var table) = operation {
        tables.append(table.functions)
        table.functions = nil
        operation = .table(table)
      }
      for output in node.outputs {
        numbers[output] = programValues.count
        programValues.append(
          Program.Value(
            self[output].type, name: node.operation.quantizes ? "" : self[output].name))
      }
      programNodes.append(
        Program.Node(
          operation, name: node.name, inputs: node.inputs.map { $0.flatMap { numbers[$0] } },
          outputs: node.outputs.compactMap { numbers[$0] }))
    }
    var metadata = metadata
    if !tables.isEmpty, tables.allSatisfy({ $0 != nil }) {
      metadata.setTableFunctions(tables.compactMap { $0 })
    }
    let program = Program(
      values: programValues, constants: constants, nodes: programNodes,
      inputs: Array(inputs.indices),
      outputs: outputs.compactMap { output in
        numbers[output.value].map { Program.Output(name: output.name, value: $0) }
      },
      metadata: metadata)
    return FlattenedGraph(program: program, numbers: numbers)
  }

  /// Constants with equal keys may be equal.
  private struct ConstantKey: Hashable {
    let type: ValueType
    let sample: [UInt8]

    init(_ constant: Program.Constant) {
      type = constant.type
      sample = Array(constant.tensor.bytes.prefix(64))
    }
  }
}

extension Operation {
  /// Whether the results are codes of an operand.
  fileprivate var quantizes: Bool {
    switch self {
    case .quantize, .dynamicQuantize: true
    default: false
    }
  }
}

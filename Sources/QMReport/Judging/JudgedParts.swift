import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// The parts of each output of a float network that are judged by themselves. One number over a whole
/// output hides small elements beside large ones.
///
/// Given: a float network, and its values on a few samples.
/// Result:
/// - For an output that is chosen from others (TopK, ArgMax, elements gathered by them): the numbers
///   that the choice is made from. A choice between almost equal numbers says nothing about the error.
/// - For an output whose last step but transpositions and reshapes is a Concat: one part per operand,
///   if the parts are ranges along an axis of known extent.
/// - For other outputs whose elements differ in magnitude by more than 30 times along an axis: the
///   groups of similar magnitude. Probabilities and others with a fixed range are not cut.
public struct JudgedParts: Sendable, Hashable {
  /// By the name of the output; outputs that are judged as a whole are absent.
  public private(set) var parts: [String: [Program.Metadata.Part]] = [:]

  /// Names of the outputs whose rows along the last axis are scores of classes.
  public private(set) var scores: Set<String> = []

  /// The comparison of an output, without samples yet.
  public func comparison(of output: String) -> OutputComparison {
    OutputComparison(parts[output] ?? [], areScores: scores.contains(output))
  }

  /// The inner values that parts name.
  public var innerValues: Set<String> {
    Set(parts.values.joined().map(\.value)).subtracting([""])
  }

  /// All outputs are judged as a whole.
  public init() {}

  /// The parts that a file states.
  /// - Parameter reference: the float network, if there is one.
  public init(of program: Program, reference: Program?) {
    for measurement in program.metadata.measurements {
      let output = program.outputs[measurement.output].name
      if measurement.measure == .topOneAgreement { scores.insert(output) }
      guard measurement.measure == .signalToNoise, let part = measurement.part else { continue }
      parts[output, default: []].append(part)
    }
    if let reference, program.metadata.measurements.isEmpty {
      scores = NetworkStructure(reference).scores
    }
  }

  /// The parts of a float network.
  /// - Parameters:
  ///   - program: the network.
  ///   - model: the model of the program.
  ///   - samples: a few samples.
  /// - Throws: the error of a run.
  public init(of program: Program, _ model: Model, on samples: [[String: Tensor]]) throws(QMError) {
    let structure = NetworkStructure(program)
    scores = structure.scores
    var shapes: [Int: [Int]] = [:]
    var outputs: [[String: Tensor]] = []
    let session = Session(model)
    for inputs in samples {
      outputs.append(
        try session.run(
          inputs, observing: { (value, view) throws(QMError) in shapes[value] = view.shape }))
    }
    for output in program.outputs {
      let type = program.values[output.value].type
      if structure.isChosen(output.value) {
        let fronts = structure.numbersBehindChoice(output.value)
        parts[output.name] = fronts.map { .init(value: program.values[$0].name) }
      } else if type.elementType == .float32 {
        var found = try structure.partsOfConcatenation(output.value, shapes)
        if found == nil, !structure.hasFixedRange(output.value) {
          found = JudgedParts.magnitudes(of: outputs.compactMap { $0[output.name] })
        }
        if let found, found.count > 1 { parts[output.name] = found }
      }
    }
    parts = parts.filter { !$0.value.isEmpty }
  }

  // MARK: Magnitudes

  /// Magnitudes that differ by more than this are judged apart.
  private static let ratio = 30.0
  /// More groups than this are no groups.
  private static let mostGroups = 4
  private static let extents = 2...4096
  /// Elements per index from which their magnitude is more than chance.
  private static let leastElements = 64

  /// Groups of indices along the last axis, or along the second, with elements of similar magnitude.
  private static func magnitudes(of outputs: [Tensor]) -> [Program.Metadata.Part]? {
    guard let rank = outputs.first?.shape.count else { return nil }
    for axis in rank >= 3 ? [-1, 1 - rank] : [-1] where rank >= 2 {
      guard let extent = outputs.first.map({ $0.shape[rank + axis] }), extents.contains(extent),
        outputs.allSatisfy({ $0.shape.count == rank && $0.shape[rank + axis] == extent }),
        outputs.reduce(0, { $0 + $1.elementCount }) >= leastElements * extent
      else { continue }
      var power = [Double](repeating: 0, count: extent)
      for output in outputs {
        let inner = output.shape[(rank + axis + 1)...].reduce(1, *)
        let elements = output.elements(as: Float.self)
        for (index, element) in elements.enumerated() where element.isFinite {
          power[index / inner % extent] += Double(element) * Double(element)
        }
      }
      let order = power.indices.filter { power[$0] > 0 }.sorted { power[$0] > power[$1] }
      var groups: [[Int]] = []
      for index in order {
        if let largest = groups.last?.first, power[largest] <= ratio * ratio * power[index] {
          groups[groups.count - 1].append(index)
        } else {
          groups.append([index])
        }
      }
      guard (2...mostGroups).contains(groups.count) else { continue }
      return groups.map { .init(axis: axis, ranges: ranges($0)) }
    }
    return nil
  }

  /// Indices as ranges in ascending order.
  fileprivate static func ranges(_ indices: [Int]) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    for index in indices.sorted() {
      if let last = ranges.last, last.upperBound == index {
        ranges[ranges.count - 1] = last.lowerBound..<index + 1
      } else {
        ranges.append(index..<index + 1)
      }
    }
    return ranges
  }
}

extension Program.Node {
  fileprivate var isTranspose: Bool { if case .transpose = operation { true } else { false } }
}

/// What computes the outputs of a program.
private struct NetworkStructure {
  private let program: Program
  private let producers: [Int: Program.Node]
  /// Values that depend on a choice.
  private var chosen: Set<Int> = []

  init(_ program: Program) {
    self.program = program
    var producers: [Int: Program.Node] = [:]
    for node in program.nodes {
      for output in node.outputs { producers[output] = node }
    }
    self.producers = producers
    for node in program.nodes
    where NetworkStructure.isChoice(node)
      || node.inputs.contains(where: { $0.map { chosen.contains($0) } ?? false })
    {
      chosen.formUnion(node.outputs)
    }
  }

  private static func isChoice(_ node: Program.Node) -> Bool {
    switch node.operation {
    case .topK, .argMinMax: true
    default: false
    }
  }

  func isChosen(_ value: Int) -> Bool { chosen.contains(value) }

  /// Names of the outputs whose rows are scores of classes: the results of a softmax along the last
  /// axis, or of a matrix product of two axes.
  var scores: Set<String> {
    Set(program.outputs.filter { areScores($0.value) }.map(\.name))
  }

  private func areScores(_ value: Int) -> Bool {
    guard let node = producers[value] else { return false }
    let rank = program.values[value].type.shape.rank
    switch node.operation {
    case .softmax(let softmax): return softmax.axis == rank - 1
    case .matrixMultiply: return rank == 2
    case .binary(let binary) where binary.function == .add:
      return node.inputs.contains { $0.map(areScores) ?? false }
    default:
      guard node.isTranspose || node.operation.body.keepsBytes, let input = node.inputs[0] else {
        return false
      }
      return program.values[input].type.shape.axes.last
        == program.values[value].type.shape.axes.last
        && areScores(input)
    }
  }

  /// Whether no element can leave a range.
  func hasFixedRange(_ value: Int) -> Bool {
    guard let node = producers[value] else { return false }
    let source = node.operation.body.elementSource(operandCount: node.inputs.count)
    if case .moved(let operands) = source {
      let inputs = operands.compactMap { $0 < node.inputs.count ? node.inputs[$0] : nil }
      return !inputs.isEmpty && inputs.allSatisfy(hasFixedRange)
    }
    guard let range = node.operation.body.analyticRange else { return false }
    return range.lowerBound.isFinite && range.upperBound.isFinite
  }

  /// The named float32 values that choices are made from, and those of which elements are chosen, on
  /// the way to a value.
  func numbersBehindChoice(_ value: Int) -> [Int] {
    var numbers: Set<Int> = []
    var seen: Set<Int> = []
    var pending = [value]
    while let value = pending.popLast() {
      guard seen.insert(value).inserted, let node = producers[value] else { continue }
      for case .some(let input) in node.inputs {
        if chosen.contains(input) {
          pending.append(input)
        } else if program.values[input].constant == nil,
          program.values[input].type.elementType == .float32,
          !program.values[input].name.isEmpty
        {
          numbers.insert(input)
        }
      }
    }
    return numbers.sorted()
  }

  /// The parts that the operands of a Concat are of an output; nil if the output is no Concat or its
  /// operands are not ranges along an axis of the output.
  /// - Parameter shapes: shapes of the values in a run.
  func partsOfConcatenation(
    _ output: Int, _ shapes: [Int: [Int]]
  ) throws(QMError) -> [Program.Metadata.Part]? {
    var (value, moves) = (output, [Program.Node]())
    while let node = producers[value] {
      if case .concatenate(let concatenate) = node.operation {
        return try parts(of: node, along: concatenate.axis, moves.reversed(), shapes)
      }
      guard node.isTranspose || node.operation.body.keepsBytes, let input = node.inputs[0] else {
        return nil
      }
      moves.append(node)
      value = input
    }
    return nil
  }

  private func parts(
    of node: Program.Node, along axis: Int, _ moves: [Program.Node], _ shapes: [Int: [Int]]
  ) throws(QMError) -> [Program.Metadata.Part]? {
    let operands = node.inputs.compactMap(\.self)
    guard operands.count > 1, let shape = shapes[node.outputs[0]], shape.indices.contains(axis),
      operands.allSatisfy({ program.values[$0].type.shape[axis].extent != nil })
    else { return nil }
    let inner = shape[(axis + 1)...].reduce(1, *)
    let labels = operands.enumerated().flatMap { number, operand in
      [Float](
        repeating: Float(number), count: program.values[operand].type.shape[axis].extent ?? 0)
    }
    guard labels.count == shape[axis] else { return nil }
    // Each element of the Concat carries the number of its operand through the moves.
    var carried = try Tensor(shape, as: Float.self) { elements in
      for index in elements.indices { elements[index] = labels[index / inner % labels.count] }
    }
    for move in moves {
      if move.isTranspose {
        carried = try move.operation.evaluate([carried])[0]
      } else {
        guard let shape = shapes[move.outputs[0]] else { return nil }
        carried = try Tensor(shape, carried.elements(as: Float.self))
      }
    }
    return ranges(of: carried)
  }

  /// The parts by the labels of elements, if labels differ along one axis only.
  private func ranges(of labels: Tensor) -> [Program.Metadata.Part]? {
    let elements = labels.elements(as: Float.self)
    for position in labels.shape.indices.reversed() {
      let extent = labels.shape[position]
      let inner = labels.shape[(position + 1)...].reduce(1, *)
      var along = [Float?](repeating: nil, count: extent)
      let isCut = elements.enumerated().allSatisfy { index, label in
        let place = index / inner % extent
        if along[place] == nil { along[place] = label }
        return along[place] == label
      }
      guard isCut else { continue }
      var indices: [Float: [Int]] = [:]
      for (index, label) in along.enumerated() {
        if let label { indices[label, default: []].append(index) }
      }
      return indices.sorted { $0.key < $1.key }
        .map {
          .init(axis: position - labels.shape.count, ranges: JudgedParts.ranges($0.value))
        }
    }
    return nil
  }
}

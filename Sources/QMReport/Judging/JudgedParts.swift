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
/// - For probabilities, the results of a softmax or sigmoid: their log odds, see ``LogOdds``.
/// - For other outputs whose elements differ in magnitude by more than 30 times along an axis: the
///   groups of similar magnitude. Others with a fixed range are not cut.
/// - For outputs that are an input of the next step, see ``States``: the same parts of the other
///   outputs after one more step of the program, from its own states and from those of the float
///   network. The states themselves do not decide.
public struct JudgedParts: Sendable, Hashable {
  /// By the name of the output; outputs that are judged as a whole are absent.
  public private(set) var parts: [String: [Program.Metadata.Part]] = [:]

  /// The outputs that are judged by their effect on the next step.
  public private(set) var states = States()

  /// Names of the outputs whose rows along the last axis are scores of classes.
  public private(set) var scores: Set<String> = []

  /// The comparison of an output, without samples yet.
  /// - Parameter magnitudes: what the signal of a sample counts as at least, by part.
  public func comparison(
    of output: String, leastMagnitudes magnitudes: [Program.Metadata.Part?: Double] = [:]
  ) -> OutputComparison {
    OutputComparison(
      parts[output] ?? [], areScores: scores.contains(output),
      isState: states.inputs[output] != nil, leastMagnitudes: magnitudes)
  }

  /// The inner values that parts name.
  public var innerValues: Set<String> {
    Set(parts.values.joined().map(\.value)).subtracting([""])
  }

  /// All outputs are judged as a whole.
  public init() {}

  /// The parts that a file states.
  public init(of program: Program) {
    for measurement in program.metadata.measurements {
      let output = program.outputs[measurement.output].name
      if measurement.measure == .topOneAgreement { scores.insert(output) }
      guard measurement.measure == .signalToNoise, let part = measurement.part else { continue }
      parts[output, default: []].append(part)
    }
    if parts.values.contains(where: { $0.contains(where: \.isNextStep) }) {
      states = States(of: program)
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
      parts[output.name] = try JudgedParts.parts(
        of: output.value, structure, shapes, outputs.compactMap { $0[output.name] })
    }
    states = States(of: program)
    if let inputs = samples.first, let outputs = outputs.first, !states.inputs.isEmpty {
      addNextStep(to: program, inputs, outputs, session)
    }
    // One part that is all there is, as it is.
    parts = parts.filter { $0.value.count > 1 || $0.value.first != Program.Metadata.Part() }
  }

  /// The parts of one output; nil for one that is not compared by its elements.
  private static func parts(
    of output: Int, _ structure: NetworkStructure, _ shapes: [Int: [Int]], _ results: [Tensor]
  ) throws(QMError) -> [Program.Metadata.Part]? {
    let program = structure.program
    let type = program.values[output].type
    if structure.isChosen(output) {
      let fronts = structure.numbersBehindChoice(output).map { front in
        var part = structure.probabilities(front) ?? .init()
        part.value = program.values[front].name
        return part
      }
      return fronts.isEmpty ? nil : fronts
    }
    guard type.elementType == .float32 else { return nil }
    let whole = structure.probabilities(output)
    var found = try structure.partsOfConcatenation(output, shapes)
    if found == nil, !structure.hasFixedRange(output) { found = magnitudes(of: results) }
    guard var found, found.count > 1 else { return [whole ?? .init()] }
    for index in found.indices where whole != nil { found[index].form = .logOdds }
    return found
  }

  /// Adds the parts after one more step, if the network can take one.
  private mutating func addNextStep(
    to program: Program, _ inputs: [String: Tensor], _ outputs: [String: Tensor],
    _ session: Session
  ) {
    guard let next = states.nextInputs(inputs, outputs), (try? session.run(next)) != nil else {
      states = States()
      return
    }
    for output in program.outputs where states.inputs[output.name] == nil {
      let present = parts[output.name] ?? []
      parts[output.name] =
        present
        + present.map { part in
          var part = part
          part.isNextStep = true
          return part
        }
    }
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
  static func ranges(_ indices: [Int]) -> [Range<Int>] {
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

import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Measures what rounding activations to their grids costs at the outputs of the network: the float
/// network runs with a few values rounded where they are made, all else unrounded.
///
/// A value's own error does not say what it does to the result; this does. Outputs that are
/// probabilities are compared as log odds, within ±8.3: a classifier that is sure of its samples
/// would hide all damage.
struct DamageTest {
  /// Samples that are run, at most.
  static let sampleLimit = 4
  /// Signal to noise, as a ratio of powers, that a value must leave at every output: 30 dB.
  static let tolerated = 1000.0

  /// Elements of an output over all samples below which their spread says nothing.
  private static let leastElementCount = 8

  private let session: Session
  private let probabilities: Set<String>
  /// The grid of each value that has one, by number in the program.
  private var grids: [Int: (grid: Plan.Grid, group: Int)] = [:]
  /// Groups in the order in which they are computed.
  private(set) var groups: [Int] = []
  private var inputs: [[String: Tensor]] = []
  private var references: [[String: [Float]]] = []
  /// Power of each output: about its mean over the samples, where that tells outputs apart.
  private var power: [String: Double] = [:]

  init(
    _ planner: Planner, _ plan: Plan, over samples: any SampleSource, options: Model.Options
  ) throws(QMError) {
    let graph = planner.graph
    probabilities = Set(
      graph.outputs.filter { planner.analyticRange(of: $0.value) == 0...1 }.map(\.name))
    let flattened = graph.flattened()
    session = Session(try Model(flattened.program, options: options))
    var seen: Set<Int> = []
    for value in plan.activations.keys.sorted() {
      guard case .fixed(let grid) = plan.activations[value], let number = flattened.numbers[value]
      else { continue }
      let group = planner.group(of: value)
      grids[number] = (grid, group)
      if seen.insert(group).inserted { groups.append(group) }
    }
    let count = min(samples.count, DamageTest.sampleLimit)
    for step in 0..<count {
      let index = step * samples.count / count
      let (sample, outputs) = try within(.sample(samples.name(of: index))) {
        () throws(QMError) -> ([String: Tensor], [String: [Float]]) in
        let sample = try samples.inputs(of: index)
        return (sample, numbers(try session.run(sample)))
      }
      inputs.append(sample)
      references.append(outputs)
    }
    for name in references.first?.keys.sorted() ?? [] {
      let elements = references.flatMap { $0[name] ?? [] }.filter(\.isFinite).map(Double.init)
      guard !elements.isEmpty else { continue }
      func meanSquare(about mean: Double) -> Double {
        elements.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(elements.count)
      }
      let about = meanSquare(about: elements.reduce(0, +) / Double(elements.count))
      // A few numbers, or one and the same, have no spread to compare noise with.
      power[name] =
        elements.count >= DamageTest.leastElementCount && about > 0
        ? about : meanSquare(about: 0)
    }
  }

  /// The groups whose rounding alone leaves less than ``tolerated``, with what it leaves. Groups
  /// are halved until each that does stands alone: noise of several adds up, so that a set within
  /// the limit holds none beyond it.
  /// - Parameter progress: called with how many groups are decided.
  func damagingGroups(
    progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) -> [Int: Double] {
    var done = 0
    var found: [Int: Double] = [:]
    var pending = [groups[...]]
    while let part = pending.popLast() {
      guard !part.isEmpty else { continue }
      let signalToNoise = try signalToNoise(rounding: Set(part))
      if signalToNoise >= DamageTest.tolerated || part.count == 1 {
        if signalToNoise < DamageTest.tolerated { found[part[part.startIndex]] = signalToNoise }
        done += part.count
        progress(done)
      } else {
        let middle = part.startIndex + part.count / 2
        pending.append(part[middle...])
        pending.append(part[..<middle])
      }
    }
    return found
  }

  /// Signal to noise of the worst output, as a ratio, where these groups alone are rounded.
  func signalToNoise(rounding groups: Set<Int>) throws(QMError) -> Double {
    var noise: [String: (sum: Double, count: Int)] = [:]
    for (sample, reference) in zip(inputs, references) {
      // The observer rounds inputs in place too: they must not be the samples themselves.
      var copies: [String: Tensor] = [:]
      for (name, tensor) in sample {
        copies[name] =
          tensor.elementType == .float32
          ? try Tensor(.float32, tensor.shape, buffer: .copying(tensor.bytes)) : tensor
      }
      let outputs = numbers(
        try session.run(
          copies,
          observing: { (number, view) throws(QMError) in
            guard view.elementType == .float32, let (grid, group) = grids[number],
              groups.contains(group)
            else { return }
            grid.round(view.elements(as: Float.self))
          }))
      for (name, expected) in reference {
        guard let found = outputs[name], found.count == expected.count else {
          // Rounding has changed the extents of an output.
          noise[name] = (.infinity, 1)
          continue
        }
        for (expected, found) in zip(expected, found) where expected.isFinite {
          let difference = Double(expected) - Double(found)
          let power = difference.isFinite ? difference * difference : .infinity
          let known = noise[name] ?? (0, 0)
          noise[name] = (known.sum + power, known.count + 1)
        }
      }
    }
    var worst = Double.infinity
    for (name, noise) in noise where noise.sum > 0 {
      // An output that is zero throughout has nothing to compare noise with.
      guard let power = power[name], power > 0 else { continue }
      worst = min(worst, power * Double(noise.count) / noise.sum)
    }
    return worst
  }

  private func numbers(_ outputs: [String: Tensor]) -> [String: [Float]] {
    var numbers: [String: [Float]] = [:]
    for (name, tensor) in outputs where tensor.elementType == .float32 {
      let elements: [Float] = tensor.elements()
      numbers[name] =
        probabilities.contains(name) ? elements.map { DamageTest.logOdds($0) } : elements
    }
    return numbers
  }

  private static func logOdds(_ probability: Float) -> Float {
    let inside = min(max(probability, 0x1p-12), 1 - 0x1p-12)
    return UnaryFunction.logarithm(inside / (1 - inside))
  }
}

extension Plan.Grid {
  /// Each number becomes the nearest one on the grid.
  func round(_ numbers: UnsafeMutableBufferPointer<Float>) {
    let (lowest, highest): (Float, Float) =
      elementType == .int16 ? (-32768, 32767) : (-128, 127)
    let zero = Float(zeroPoint)
    let inverse = 1 / scale
    for index in numbers.indices {
      let code = (numbers[index] * inverse).rounded(.toNearestOrEven) + zero
      numbers[index] = (min(max(code, lowest), highest) - zero) * scale
    }
  }
}

import Foundation
import QMFormat
import QMNumPy
import QMReport
import QMTensor

/// Where a run of training stands: what it takes to go on to the same bytes.
@dynamicMemberLookup
package struct TrainingState {
  /// What is no array.
  package struct Progress: Codable {
    let options: TrainingOptions
    /// SHA-256 of the parameters before training. They follow from the network, the samples and the
    /// options of the conversion.
    let start: String
    /// Steps that are done.
    var step = 0
    /// Steps of the run.
    let stepCount: Int
    /// Largest learning rate.
    let rate: Float
    var clipping: Clipping
    var schedule: Schedule
    var pressure: RatePressure
    /// Loss of the first step, or before it if that is larger.
    var firstLoss: Double?
    /// A running mean of the loss.
    var recentLoss: Double
    /// Loss on the samples that are held out, before training.
    let lossBefore: Double
    /// The least of them so far.
    var bestLoss: Double
    /// Times that training went back to the best state, and the factor of the rate since.
    var returns = 0
    var reduction: Float = 1
    /// Steps of the optimizer for each slot since its start.
    var optimizerSteps: [Int] = []
  }

  private var progress: Progress
  var optimizer: Optimizer
  /// The parameters.
  var numbers: [Float]
  /// The parameters with the least loss so far.
  var best: [Float]

  package subscript<Member>(dynamicMember path: KeyPath<Progress, Member>) -> Member {
    progress[keyPath: path]
  }

  package subscript<Member>(dynamicMember path: WritableKeyPath<Progress, Member>) -> Member {
    get { progress[keyPath: path] }
    set { progress[keyPath: path] = newValue }
  }

  init(
    _ options: TrainingOptions, _ parameters: Parameters, rate: Float, steps: Int, loss: Double,
    bits: Double
  ) {
    numbers = parameters.snapshot()
    best = numbers
    optimizer = Optimizer(options, for: parameters.slots)
    progress = Progress(
      options: options, start: TrainingState.digest(numbers), stepCount: steps, rate: rate,
      clipping: Clipping(options.clip, threshold: options.clipThreshold),
      schedule: Schedule(
        options.schedule, steps: steps, warmUp: Int(Float(steps) * options.warmUp)),
      pressure: RatePressure(budget: bits), recentLoss: loss, lossBefore: loss, bestLoss: loss)
  }

  /// - Parameter numbers: the parameters before training.
  /// - Throws: `usage` if the state is of a run with other options, or from another start.
  func requireMade(with options: TrainingOptions, from numbers: [Float]) throws(QMError) {
    guard progress.options == options, progress.start == TrainingState.digest(numbers) else {
      throw .usage(
        "the checkpoint is of a run with other options, or of another network or samples; "
          + "resume with those of the first run")
    }
  }

  private static func digest(_ numbers: [Float]) -> String {
    var digest = Digest()
    numbers.withUnsafeBytes { digest.update($0) }
    return digest.finished().hexadecimal
  }
}

// MARK: Checkpoints

extension TrainingState {
  /// Writes the state to an `.npz` archive, completely or not at all.
  /// - Throws: `cannotWrite`.
  package func write(to path: String) throws(QMError) {
    let encoder = JSONEncoder()
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    var progress = progress
    progress.optimizerSteps = optimizer.steps
    guard let json = try? encoder.encode(progress) else {
      throw .internalFault("the state of the training cannot be written as JSON")
    }
    func array<Element: TensorElement>(_ elements: [Element]) throws(QMError) -> Tensor {
      try Tensor([elements.count], elements)
    }
    try NPZArchive.write(
      [
        ("state", try array(Array(json))), ("numbers", try array(numbers)),
        ("best", try array(best)),
        ("first", try array(optimizer.first.flatMap { $0 })),
        ("second", try array(optimizer.second.flatMap { $0 })),
      ], to: path)
  }

  /// Reads a state that ``write(to:)`` wrote.
  /// - Parameter parameters: of the network.
  /// - Throws: `cannotOpen`; `malformed`; `usage` if it is of a network with other parameters; with the
  ///   path as context.
  package init(contentsOf path: String, for parameters: Parameters) throws(QMError) {
    let archive = try NPZArchive(path: path)
    self = try within(.file(path)) { () throws(QMError) in
      try TrainingState(archive, for: parameters)
    }
  }

  private init(_ archive: NPZArchive, for parameters: Parameters) throws(QMError) {
    func array<Element: TensorElement>(_ name: String) throws(QMError) -> [Element] {
      let tensor = try archive.tensor(named: name)
      guard tensor.elementType == Element.elementType, tensor.shape.count == 1 else {
        throw .malformed(
          "array '\(name)' is \(tensor); expected one axis of \(Element.elementType)")
      }
      return tensor.elements()
    }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let json: [UInt8] = try array("state")
    guard let progress = try? decoder.decode(Progress.self, from: Data(json)), progress.isValid
    else { throw .malformed("not the checkpoint of a run by this version; start without it") }
    self.progress = progress
    numbers = try array("numbers")
    best = try array("best")
    optimizer = Optimizer(progress.options, for: parameters.slots)
    optimizer.steps = progress.optimizerSteps
    let (first, second): ([Float], [Float]) = (try array("first"), try array("second"))
    let count = parameters.slots.reduce(0) { $0 + $1.count }
    guard numbers.count == count, best.count == count,
      optimizer.steps.count == parameters.slots.count, optimizer.setMoments(first, second)
    else {
      throw .usage("the checkpoint is of another network")
    }
  }
}

extension TrainingState.Progress {
  /// Whether a run can have left these numbers: a file may hold any.
  fileprivate var isValid: Bool {
    stepCount == options.steps && stepCount > 0 && (0...stepCount).contains(step) && rate > 0
      && rate.isFinite && reduction > 0 && reduction <= 1 && clipping.percentile.isFinite
      && pressure.budget.isFinite && optimizerSteps.allSatisfy((0...stepCount).contains)
  }
}

extension Optimizer {
  /// Replaces the moments of all slots.
  /// - Returns: false if there are not as many numbers.
  fileprivate mutating func setMoments(_ all: [Float], _ squares: [Float]) -> Bool {
    func divided(_ numbers: [Float], like slots: [[Float]]) -> [[Float]]? {
      guard numbers.count == slots.reduce(0, { $0 + $1.count }) else { return nil }
      var place = 0
      return slots.map { slot in
        defer { place += slot.count }
        return Array(numbers[place..<place + slot.count])
      }
    }
    guard let first = divided(all, like: first), let second = divided(squares, like: second) else {
      return false
    }
    (self.first, self.second) = (first, second)
    return true
  }
}

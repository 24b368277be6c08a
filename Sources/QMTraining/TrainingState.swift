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
    var divergence: DivergenceWatch
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
  /// Sums of gradients that wait; nil if none do.
  var segments: SegmentedAccumulation?
  /// nil if no weights are pruned.
  var pruning: Pruning?
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
    segments = SegmentedAccumulation(options, parameters.slots)
    pruning = Pruning(options, parameters.slots, steps: steps)
    var clipping = Clipping(options.clip, threshold: options.clipThreshold)
    clipping.bounds = options.clipRange
    // States before the last weights are pruned are not what was asked for.
    let best = pruning == nil ? loss : .infinity
    progress = Progress(
      options: options, start: TrainingState.digest(numbers), stepCount: steps, rate: rate,
      clipping: clipping,
      schedule: Schedule(options.schedule, steps: steps, warmUp: options.warmUpSteps(of: steps)),
      pressure: RatePressure(budget: bits),
      divergence: DivergenceWatch(lossBefore: loss), lossBefore: loss, bestLoss: best)
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
    var arrays = [
      ("state", try array(Array(json))), ("numbers", try array(numbers)),
      ("best", try array(best)),
      ("first", try array(optimizer.first.flatMap { $0 })),
      ("second", try array(optimizer.second.flatMap { $0 })),
    ]
    if let segments { arrays.append(("sums", try array(segments.sums.flatMap { $0 }))) }
    if let pruning {
      arrays.append(("pruned", try array(pruning.masks.joined().map { UInt8($0 ? 1 : 0) })))
    }
    try NPZArchive.write(arrays, to: path)
  }

  /// Reads a state that ``write(to:)`` wrote.
  /// - Parameters:
  ///   - parameters: as they are before training.
  ///   - options: of the run.
  ///   - steps: of the run.
  /// - Throws: `cannotOpen`; `malformed`; `usage` if it is of a run with other options or steps, or of
  ///   other parameters; with the path as context.
  package init(
    contentsOf path: String, for parameters: Parameters, _ options: TrainingOptions, steps: Int
  ) throws(QMError) {
    let archive = try NPZArchive(path: path)
    self = try within(.file(path)) { () throws(QMError) in
      try TrainingState(archive, for: parameters, options, steps: steps)
    }
  }

  private init(
    _ archive: NPZArchive, for parameters: Parameters, _ options: TrainingOptions, steps: Int
  ) throws(QMError) {
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
    guard progress.options == options, progress.stepCount == steps,
      progress.start == TrainingState.digest(parameters.snapshot())
    else {
      throw .usage(
        "the checkpoint is of a run with other options, or of another network or samples; "
          + "resume with those of the first run")
    }
    self.progress = progress
    numbers = try array("numbers")
    best = try array("best")
    optimizer = Optimizer(options, for: parameters.slots)
    optimizer.steps = progress.optimizerSteps
    segments = SegmentedAccumulation(options, parameters.slots)
    pruning = Pruning(options, parameters.slots, steps: steps)
    let count = parameters.slots.reduce(0) { $0 + $1.count }
    guard numbers.count == count, best.count == count,
      optimizer.steps.count == parameters.slots.count,
      optimizer.first.replace(by: try array("first")),
      optimizer.second.replace(by: try array("second")),
      try segments?.sums.replace(by: array("sums")) ?? true,
      try pruning?.masks.replace(by: (array("pruned") as [UInt8]).map { $0 != 0 }) ?? true
    else {
      throw .usage("the checkpoint is of another network")
    }
  }
}

extension TrainingState.Progress {
  /// Whether a run can have left these numbers: a file may hold any.
  fileprivate var isValid: Bool {
    stepCount > 0 && schedule.stepCount == stepCount && schedule.isValid
      && (0...stepCount).contains(step) && rate > 0
      && rate.isFinite && reduction > 0 && reduction <= 1 && clipping.percentile.isFinite
      && pressure.budget.isFinite && optimizerSteps.allSatisfy((0...stepCount).contains)
  }
}

extension Array {
  /// Replaces the elements of all arrays by consecutive ones of a single array.
  /// - Returns: false if there are not as many.
  fileprivate mutating func replace<Number>(by all: [Number]) -> Bool where Element == [Number] {
    guard all.count == reduce(0, { $0 + $1.count }) else { return false }
    var place = 0
    for index in indices {
      let count = self[index].count
      self[index] = [Number](all[place..<place + count])
      place += count
    }
    return true
  }
}

extension Optimizer {
  /// The optimizer of a run.
  init(_ options: TrainingOptions, for slots: [Parameters.Slot]) {
    self.init(
      options.optimizer, for: slots, momentum: options.momentum,
      squaredDecay: options.weightDecay, absoluteDecay: options.absoluteDecay)
  }
}

extension SegmentedAccumulation {
  /// The accumulation of a run; nil if all layers are updated at each step.
  init?(_ options: TrainingOptions, _ slots: [Parameters.Slot]) {
    guard let threshold = options.segmentThreshold else { return nil }
    self.init(slots, threshold: threshold, decay: options.segmentDecay)
  }
}

extension Pruning {
  /// The pruning of a run; nil if no weights are pruned.
  fileprivate init?(_ options: TrainingOptions, _ slots: [Parameters.Slot], steps: Int) {
    guard options.sparsity > 0 else { return nil }
    self.init(
      slots, share: options.sparsity, steps: steps, warmUp: options.warmUpSteps(of: steps))
  }
}

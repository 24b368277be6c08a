import Foundation
import QMNumPy
import QMTensor

/// Where a run of training stands: what it takes to go on to the same bytes.
package struct TrainingState {
  /// Steps that are done.
  package internal(set) var step = 0
  /// Steps of the run.
  package let stepCount: Int
  /// Largest learning rate.
  let rate: Float
  var optimizer: Optimizer
  var clipping: Clipping
  var schedule: Schedule
  var pressure: RatePressure
  /// Loss of the first step, or before it if that is larger.
  var firstLoss: Double?
  /// A running mean of the loss.
  var recentLoss: Double
  /// Loss on the samples that are held out, before training.
  let lossBefore: Double
  /// The least of them so far, and the parameters with it.
  var bestLoss: Double
  var best: [Float]
  /// Times that training went back to the best state, and the factor of the rate since.
  var returns = 0
  var reduction: Float = 1
  /// The parameters.
  var numbers: [Float]
  private let options: TrainingOptions

  init(
    _ options: TrainingOptions, _ parameters: Parameters, rate: Float, steps: Int, loss: Double,
    bits: Double
  ) {
    self.options = options
    self.rate = rate
    stepCount = steps
    optimizer = Optimizer(options, for: parameters.slots)
    clipping = Clipping(options.clip, threshold: options.clipThreshold)
    schedule = Schedule(
      options.schedule, steps: steps, warmUp: Int(Float(steps) * options.warmUp))
    pressure = RatePressure(budget: bits)
    (lossBefore, bestLoss, recentLoss) = (loss, loss, loss)
    numbers = parameters.snapshot()
    best = numbers
  }

  /// - Throws: `usage` if the state is of a run with other options, or of another network.
  func requireMade(with options: TrainingOptions, numbers count: Int) throws(QMError) {
    guard self.options == options, numbers.count == count else {
      throw .usage(
        "the checkpoint is of a run with other options or of another network; "
          + "resume with those of the first run")
    }
  }
}

// MARK: Checkpoints

extension TrainingState {
  /// What is no array.
  private struct Header: Codable {
    var version = 1
    let options: TrainingOptions
    let step: Int
    let stepCount: Int
    let rate: Float
    let optimizerStep: Int
    let clipping: Clipping
    let schedule: Schedule
    let pressure: RatePressure
    let firstLoss: Double?
    let recentLoss: Double
    let lossBefore: Double
    let bestLoss: Double
    let returns: Int
    let reduction: Float
  }

  /// Writes the state to an `.npz` archive, completely or not at all.
  /// - Throws: `cannotWrite`.
  package func write(to path: String) throws(QMError) {
    let header = Header(
      options: options, step: step, stepCount: stepCount, rate: rate,
      optimizerStep: optimizer.step, clipping: clipping, schedule: schedule, pressure: pressure,
      firstLoss: firstLoss, recentLoss: recentLoss, lossBefore: lossBefore, bestLoss: bestLoss,
      returns: returns,
      reduction: reduction)
    let encoder = JSONEncoder()
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    guard let json = try? encoder.encode(header) else {
      throw .internalFault("the state of the training cannot be written as JSON")
    }
    let (first, second) = (optimizer.first.flatMap { $0 }, optimizer.second.flatMap { $0 })
    let bytes = Array(json)
    try NPZArchive.write(
      [
        ("state", try Tensor([bytes.count], bytes)),
        ("numbers", try Tensor([numbers.count], numbers)),
        ("best", try Tensor([best.count], best)), ("first", try Tensor([first.count], first)),
        ("second", try Tensor([second.count], second)),
      ], to: path)
  }

  /// Reads a state that ``write(to:)`` wrote.
  /// - Parameter parameters: of the network.
  /// - Throws: `cannotOpen`; `malformed`; `usage` if it is of a network with other parameters.
  package init(contentsOf path: String, for parameters: Parameters) throws(QMError) {
    let archive = try NPZArchive(path: path)
    func array<Element: TensorElement>(_ name: String, _: Element.Type) throws(QMError) -> [Element]
    {
      let tensor = try archive.tensor(named: name)
      guard tensor.elementType == Element.elementType, tensor.shape.count == 1 else {
        throw QMError.malformed(
          "array '\(name)' is \(tensor); expected one axis of \(Element.elementType)"
        )
        .within(.file(path))
      }
      return tensor.elements(as: Element.self)
    }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let json = try array("state", UInt8.self)
    guard let header = try? decoder.decode(Header.self, from: Data(json)), header.version == 1,
      header.stepCount == header.options.steps, header.stepCount > 0,
      (0...header.stepCount).contains(header.step),
      (0...header.stepCount).contains(header.optimizerStep), header.rate > 0, header.rate.isFinite,
      header.clipping.percentile.isFinite, header.pressure.budget.isFinite
    else {
      throw QMError.malformed("not a checkpoint of this version").within(.file(path))
    }
    (options, step, stepCount, rate) = (header.options, header.step, header.stepCount, header.rate)
    (clipping, schedule, pressure) = (header.clipping, header.schedule, header.pressure)
    (firstLoss, lossBefore, bestLoss) = (header.firstLoss, header.lossBefore, header.bestLoss)
    (returns, reduction) = (header.returns, header.reduction)
    recentLoss = header.recentLoss
    numbers = try array("numbers", Float.self)
    best = try array("best", Float.self)
    optimizer = Optimizer(header.options, for: parameters.slots)
    optimizer.step = header.optimizerStep
    let (first, second) = (try array("first", Float.self), try array("second", Float.self))
    guard numbers.count == parameters.snapshot().count, best.count == numbers.count,
      optimizer.setMoments(first, second)
    else {
      throw QMError.usage("the checkpoint is of another network").within(.file(path))
    }
  }
}

extension Optimizer {
  /// Replaces the moments of all slots.
  /// - Returns: false if there are not as many numbers.
  fileprivate mutating func setMoments(_ all: [Float], _ squares: [Float]) -> Bool {
    guard all.count == first.reduce(0, { $0 + $1.count }),
      squares.count == second.reduce(0, { $0 + $1.count })
    else { return false }
    var place = 0
    for index in first.indices {
      first[index] = Array(all[place..<place + first[index].count])
      place += first[index].count
    }
    place = 0
    for index in second.indices {
      second[index] = Array(squares[place..<place + second[index].count])
      place += second[index].count
    }
    return true
  }
}

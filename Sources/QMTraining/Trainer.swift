import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// How a network is trained.
public struct TrainingOptions: Sendable, Codable, Hashable {
  /// Steps of the optimizer.
  public var steps = 500
  /// Samples of a micro-batch.
  public var batch = 32
  /// Micro-batches of a step.
  public var accumulate = 1
  /// Largest learning rate.
  public var rate: Float = 0.005
  public var optimizer = Optimizer.Kind.adamw
  public var momentum: Float = 0.9
  /// Factor of w in the decay.
  public var weightDecay: Float = 0
  /// Factor of sign(w) in the decay.
  public var absoluteDecay: Float = 0
  public var schedule = Schedule.Form.cosine
  /// Share of the steps in which the rate rises.
  public var warmUp: Float = 0.05
  public var clip = Clipping.Kind.norm
  public var clipThreshold: Float = 1
  /// Share of the samples that are not trained on.
  public var holdOut: Float = 0.1
  public var seed: UInt64 = 0
  /// The name of the labels among the samples' expected outputs; nil without labels.
  public var labels: String?
  /// The output that the labels are for; nil for the first that they fit.
  public var labelledOutput: String?
  /// Share of the float network's outputs in the loss; labels have the rest. Without labels it is 1.
  public var teacherShare: Float = 0.5
  /// Factor of the mean relative error of the results of all products, compared with the float
  /// network's, in the loss; 0 for the outputs alone.
  ///
  /// Source: Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", section 2.2; Li et al. 2021,
  /// "BRECQ", section 3.2.
  public var featureShare: Float = 1

  /// The defaults.
  public init() {}
}

/// Trains the parameters of a network on samples, with the float network as teacher.
package final class Trainer {
  private let network: TrainingNetwork
  package let parameters: Parameters
  private let teacher: Session
  /// What the loss depends on: the outputs, then features.
  private let targets: [Target]
  private let featureCount: Int
  /// Factor of the features; it falls to 0 while training.
  private var featureShare: Float
  private let samples: TrainingSamples
  private let options: TrainingOptions
  private let threads: ThreadPool
  /// One pass for each set of input shapes.
  private var passes: [(shapes: [[Int]], pass: TrainingPass)] = []
  private let order: ShuffledOrder
  private let heldOut: [Int]

  /// The relative rate of scales beside that of weights: all codes of a channel depend on its scale.
  private static let scaleRate: Float = 0.1
  /// The same for biases, on which whole channels depend.
  private static let shiftRate: Float = 0.2

  /// A value that is compared with that of the float network.
  private struct Target {
    let name: String
    let isOutput: Bool
    /// The value in the network.
    let value: Int
    /// The value in the float network.
    let teacherValue: Int
    /// nil for an output that is no float32 number.
    let loss: OutputLoss?
  }

  /// Passes that are kept.
  private static let mostPasses = 8
  /// A loss of this many times the first is a divergence.
  private static let divergence = 10.0
  /// Bits of a state that may be kept, over the budget.
  private static let tolerance = 1.002
  /// Times that training returns to the best state with half the rate.
  private static let mostReturns = 3

  /// What a step did.
  package struct StepReport: Sendable {
    package let step: Int
    package let loss: Double
    package let rate: Float
    package let norm: Double
    package let threshold: Double?
    package let isClipped: Bool
    /// The loss on the samples that are held out; nil if it was not measured after this step.
    package var heldOutLoss: Double?
    /// Bits of all codes, as an entropy coder of order 0 stores them.
    package var bits = 0.0
    /// What happened, if training went back to the best state.
    package var divergence: String?
  }

  /// - Parameter judging: indices of samples that must not be trained on.
  /// - Throws: `invalidInput` with fewer than two samples; errors of runs.
  package init(
    _ network: TrainingNetwork, _ parameters: Parameters, teacher program: Program,
    _ source: any SampleSource, judging: [Int], _ options: TrainingOptions, threads: ThreadPool
  ) throws(QMError) {
    self.network = network
    self.parameters = parameters
    self.options = options
    self.threads = threads
    var modelOptions = Model.Options()
    modelOptions.threadCount = threads.threadCount
    let model = try Model(program, options: modelOptions)
    teacher = Session(model)
    samples = try TrainingSamples(source, labels: options.labels, of: model)
    guard source.count >= 2 else {
      throw .invalidInput("\(source.count) sample; training needs at least 2")
    }
    let shown = try (0..<2).map { (index) throws(QMError) in try source.inputs(of: index) }
    let losses = OutputLoss.distillation(
      of: program, try JudgedParts(of: program, model, on: shown))
    guard losses.contains(where: { $0 != nil }) else {
      throw .unsupported("no output is float32, so that there is no loss")
    }
    let outputs = zip(network.outputs, program.outputs).enumerated().map { index, pair in
      Target(
        name: pair.0.name, isOutput: true, value: pair.0.value, teacherValue: pair.1.value,
        loss: losses[index])
    }
    let features =
      options.featureShare > 0 ? Trainer.features(network, program, without: outputs) : []
    targets = outputs + features
    featureCount = features.count
    featureShare = options.featureShare
    // The judging samples, and others up to the share.
    let all = ShuffledOrder(Array(0..<source.count), seed: options.seed &+ 1)
      .batch(step: 0, size: source.count)
    let wanted = max(1, Int(Float(source.count) * options.holdOut))
    var held = judging.filter { $0 < source.count }
    let isHeld = Set(held)
    for index in all where !isHeld.contains(index) && held.count < wanted { held.append(index) }
    if held.count >= source.count { held = [all[0]] }
    heldOut = held.sorted()
    let taken = Set(held)
    order = ShuffledOrder((0..<source.count).filter { !taken.contains($0) }, seed: options.seed)
  }

  /// The results of the products with trained weights, which both networks have under one name.
  private static func features(
    _ network: TrainingNetwork, _ program: Program, without outputs: [Target]
  ) -> [Target] {
    var numbers: [String: Int] = [:]
    for node in program.nodes {
      for output in node.outputs { numbers[program.values[output].name] = output }
    }
    let taken = Set(outputs.map(\.value))
    return network.products.compactMap { value in
      let name = network.values[value].name
      guard !taken.contains(value), let number = numbers[name] else { return nil }
      return Target(
        name: name, isOutput: false, value: value, teacherValue: number, loss: OutputLoss(.relative)
      )
    }
  }

  // MARK: Runs

  private func pass(for shapes: [[Int]]) throws(QMError) -> TrainingPass {
    if let place = passes.firstIndex(where: { $0.shapes == shapes }) {
      let known = passes.remove(at: place)
      passes.append(known)
      return known.pass
    }
    if passes.count >= Trainer.mostPasses { passes.removeFirst() }
    let pass = try TrainingPass(
      network, shapes: shapes, parameters: parameters.elements, gradients: parameters.gradients,
      lossValues: targets.filter { $0.loss != nil }.map(\.value), threads: threads)
    passes.append((shapes, pass))
    return pass
  }

  /// Runs some samples.
  /// - Parameter trains: whether gradients are added.
  /// - Returns: the mean loss of the samples.
  private func run(_ indices: [Int], trains: Bool) throws(QMError) -> Double {
    var total = 0.0
    let teacherShare = options.labels == nil ? 1 : options.teacherShare
    for batch in try samples.microBatches(indices, most: options.batch) {
      let pass = try pass(for: batch.inputs.map(\.shape))
      try pass.forward(batch.inputs)
      for target in targets {
        pass.gradient(of: target.value)?.update(
          repeating: 0, count: pass.shape(of: target.value).reduce(1, *))
      }
      let weight = 1 / Float(indices.count)
      if teacherShare > 0 {
        let known = try teacherValues(batch)
        for target in targets where trains && featureShare > 0 || target.isOutput {
          guard let loss = target.loss, let elements = known[target.teacherValue] else { continue }
          let share = target.isOutput ? 1 : featureShare / Float(featureCount)
          total += add(
            loss, elements, at: target.value, of: pass, batch, weight: weight * teacherShare * share
          )
        }
      }
      if let labels = batch.labels, teacherShare < 1 {
        let target = try labelledTarget()
        let (loss, elements) = try within(.sample(samples.name(of: batch.samples[0]))) {
          () throws(QMError) in
          try OutputLoss.labelled(
            target.loss?.form ?? .relative, shape: pass.shape(of: target.value), labels)
        }
        total += add(
          loss, elements, at: target.value, of: pass, batch, weight: weight * (1 - teacherShare))
      }
      if trains { try pass.backward() }
    }
    return total
  }

  /// What the float network computes for the targets, by its own value.
  private func teacherValues(
    _ batch: TrainingSamples.MicroBatch
  ) throws(QMError) -> [Int: Tensor] {
    let wanted = Set(targets.map(\.teacherValue))
    var known: [Int: Tensor] = [:]
    let outputs: [String: Tensor]
    if featureCount > 0 {
      outputs = try teacher.run(
        samples.named(batch),
        observing: { (value, view) throws(QMError) in
          guard wanted.contains(value), view.elementType == .float32 else { return }
          known[value] = try Tensor(view.shape, Array(view.elements(as: Float.self)))
        })
    } else {
      outputs = try teacher.run(samples.named(batch))
    }
    for output in teacher.model.program.outputs { known[output.value] = outputs[output.name] }
    return known
  }

  /// Adds the loss of a value and its gradient.
  private func add(
    _ loss: OutputLoss, _ target: Tensor, at value: Int, of pass: TrainingPass,
    _ batch: TrainingSamples.MicroBatch, weight: Float
  ) -> Double {
    guard let gradient = pass.gradient(of: value), let output = pass.elements(of: value).baseAddress
    else { return 0 }
    return target.withElements(as: Float.self) { target in
      guard let target = target.baseAddress else { return 0 }
      return loss.add(
        output, target, shape: pass.shape(of: value), items: batch.samples.count,
        weight: weight, to: gradient)
    }
  }

  /// The output that the labels are for.
  private func labelledTarget() throws(QMError) -> Target {
    let outputs = network.outputs.map(\.name)
    let name = options.labelledOutput ?? outputs.first ?? ""
    guard let target = targets.first(where: { $0.name == name && $0.isOutput }) else {
      throw .usage(
        "no output '\(name.abbreviated)' for the labels; the outputs are \(outputs.listed)")
    }
    return target
  }

  /// The mean loss on the samples that are held out.
  package func heldOutLoss() throws(QMError) -> Double { try run(heldOut, trains: false) }

  // MARK: Training

  /// Takes all steps, and leaves the parameters in the state of the least loss on the samples that are
  /// held out, the first state included.
  package func run(_ report: (StepReport) throws(QMError) -> Void) throws(QMError) {
    var optimizer = makeOptimizer()
    var clipping = Clipping(options.clip, threshold: options.clipThreshold)
    var schedule = Schedule(
      options.schedule, steps: options.steps, warmUp: Int(Float(options.steps) * options.warmUp))
    var pressure = RatePressure(budget: bits())
    let lastScaleStep = options.steps - options.steps / 10
    let first = try heldOutLoss()
    var best = (loss: first, numbers: parameters.snapshot())
    var firstLoss: Double?
    var (returns, reduction): (Int, Float) = (0, 1)
    let interval = max(options.steps / 20, 1)
    for step in 0..<options.steps {
      featureShare = options.featureShare * (1 - Float(step) / Float(options.steps))
      parameters.clearGradients()
      let indices = order.batch(step: step, size: options.batch * options.accumulate)
      let loss = try run(indices, trains: true)
      parameters.finishGradients()
      scaleGradients()
      let outcome = clipping.apply(to: parameters.slots, threads)
      let rate = options.rate * schedule.factor(at: step) * reduction
      var done = StepReport(
        step: step, loss: loss, rate: rate, norm: outcome.norm, threshold: outcome.threshold,
        isClipped: outcome.isClipped)
      firstLoss = firstLoss ?? max(loss, first)
      if !loss.isFinite || !outcome.norm.isFinite || loss > Trainer.divergence * (firstLoss ?? loss)
      {
        returns += 1
        let found = "step \(step): loss \(loss), norm \(outcome.norm)"
        guard returns <= Trainer.mostReturns else {
          throw QMError(.qualityTooLow, "training diverges at \(found)")
        }
        try parameters.restore(best.numbers)
        optimizer = makeOptimizer()
        reduction /= 2
        done.divergence = found
        try report(done)
        continue
      }
      optimizer.update(
        parameters.slots, rates: rates(rate, movesScales: step < lastScaleStep), threads)
      parameters.boundScales()
      done.bits = pressure.apply(to: parameters, parameters.histograms(), threads)
      if step + 1 == lastScaleStep { fitScales(to: pressure.budget) }
      parameters.round()
      if (step + 1) % interval == 0 || step + 1 == options.steps {
        let heldOut = try heldOutLoss()
        done.heldOutLoss = heldOut
        schedule.note(heldOutLoss: heldOut)
        if heldOut < best.loss, bits() <= pressure.budget * Trainer.tolerance {
          best = (heldOut, parameters.snapshot())
        }
      }
      try report(done)
    }
    try parameters.restore(best.numbers)
  }

  /// Bits of all codes.
  private func bits() -> Double { parameters.histograms().reduce(0) { $0 + $1.bits } }

  /// Makes all scales coarser by one factor so that the codes take no more bits than allowed.
  private func fitScales(to budget: Double) {
    func bits(_ factor: Float) -> Double {
      parameters.histograms(scaledBy: factor).reduce(0) { $0 + $1.bits }
    }
    guard bits(1) > budget else { return }
    var (fine, coarse): (Float, Float) = (1, 1.5)
    for _ in 0..<12 {
      let middle = (fine + coarse) / 2
      if bits(middle) > budget { fine = middle } else { coarse = middle }
    }
    parameters.multiplyScales(by: coarse)
  }

  private func makeOptimizer() -> Optimizer {
    Optimizer(
      options.optimizer, for: parameters.slots, momentum: options.momentum,
      squaredDecay: options.weightDecay, absoluteDecay: options.absoluteDecay)
  }

  /// Scales of codes have many weights each: their gradients are divided by √(N · Q).
  ///
  /// Source: Esser et al. 2020, "Learned Step Size Quantization", section 2.2.
  private func scaleGradients() {
    for slot in parameters.slots where slot.kind == .scales {
      let factor = 1 / (Float(slot.weightsPerScale) * slot.largestCode).squareRoot()
      for index in 0..<slot.count { slot.gradients[index] *= factor }
    }
  }

  /// The rate of each slot. Adam changes each number by about the rate, whatever its gradient, so that
  /// the rate is relative: to the scale of the codes for weights and their scales, to the median
  /// magnitude for other numbers.
  ///
  /// Source: Shazeer and Stern 2018, "Adafactor", section 8 (relative step size).
  private func rates(_ rate: Float, movesScales: Bool) -> [Float] {
    parameters.slots.map { slot in
      if slot.kind == .scales, !movesScales { return 0 }
      guard options.optimizer != .sgd else { return rate }
      let factor: Float =
        switch slot.kind {
        case .weights: 1
        case .shifts: Trainer.shiftRate
        case .scales: Trainer.scaleRate
        }
      return rate * factor * max(parameters.unit(of: slot), 1e-4)
    }
  }
}

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
  /// Largest learning rate; nil for the better of two short tries. With codes, and adam or adamw, it is relative:
  /// to the scale of the codes for weights, to the size of other numbers.
  public var rate: Float?
  public var optimizer = Optimizer.Kind.adamw
  /// How weights and activations are rounded. With lsq, activations keep the converter's scales: with
  /// 8 bits, learning them too gained nothing.
  public var quantizer = Quantizer.lsq
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
  /// What batch normalizations of a float network do; nil for trained statistics if the weights start
  /// anew, and frozen ones if they start as the network's.
  public var batchNormalization: BatchNormalizationForm?
  /// Steps of a recurrent layer through which gradients go back in time; 0 for all.
  ///
  /// Source: Williams and Peng 1990, "An Efficient Gradient-Based Algorithm for On-Line Training of
  /// Recurrent Network Trajectories" (truncated backpropagation through time).
  public var throughTime = 0
  /// Whether a pass computes values again in its backward run instead of keeping them: less memory,
  /// more time, the same result. What the loss compares is kept: with features, the results of all
  /// products.
  public var recompute = false

  /// The defaults.
  public init() {}
}

extension Optimizer {
  /// The optimizer of a run.
  init(_ options: TrainingOptions, for slots: [Parameters.Slot]) {
    self.init(
      options.optimizer, for: slots, momentum: options.momentum,
      squaredDecay: options.weightDecay, absoluteDecay: options.absoluteDecay)
  }
}

/// What a step of training did.
public struct StepReport: Sendable, Codable, Hashable {
  /// Number of the step, counted from 0.
  public let step: Int
  /// Mean loss of the step's samples.
  public let loss: Double
  /// The learning rate.
  public let rate: Float
  /// The Euclidean norm of all gradients before clipping.
  public let norm: Double
  /// What the norm was compared with; nil without one threshold for all.
  public let threshold: Double?
  /// Whether any gradient was reduced.
  public let isClipped: Bool
  /// The loss on the samples that are held out; nil if it was not measured after this step.
  public internal(set) var heldOutLoss: Double?
  /// Bits of all codes, as an entropy coder of order 0 stores them.
  public internal(set) var bits = 0.0
  /// Weights whose code this step changed.
  public internal(set) var flips = 0
  /// Share of the elements of activations that were beyond their codes, 0 to 1.
  public internal(set) var saturatedShare = 0.0
  /// What happened, if training went back to the best state.
  public internal(set) var divergence: String?
}

/// Trains the parameters of a network on samples, with the float network as teacher.
package final class Trainer {
  private let network: TrainingNetwork
  package let parameters: Parameters
  private let teacher: Session
  /// What the loss depends on: the outputs, then features.
  private let targets: [Target]
  private let featureCount: Int
  /// Factor of the features at this step.
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
  /// Bytes that they may take together; a single one may take more.
  private static let passByteLimit = 1 << 30
  /// Steps from one look-ahead of greedy clipping to the next.
  private static let greedyInterval = 20
  /// Weight of a step in the recent loss.
  private static let recent = 0.3
  /// A recent loss of this many times the first is a divergence.
  private static let divergence = 10.0
  /// Measurements on the samples that are held out, in a run.
  private static let measurements = 20
  /// Samples with which the features count fully until the end.
  private static let fewSamples: Float = 100
  /// Bits of a state that may be kept, over the budget.
  private static let tolerance = 1.002
  /// Times that training returns to the best state with half the rate.
  private static let mostReturns = 3

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

  /// Number of samples that are trained on, and held out.
  package var sampleCounts: (trained: Int, heldOut: Int) { (order.count, heldOut.count) }

  // MARK: Runs

  private func pass(for shapes: [[Int]]) throws(QMError) -> TrainingPass {
    if let place = passes.firstIndex(where: { $0.shapes == shapes }) {
      let known = passes.remove(at: place)
      passes.append(known)
      return known.pass
    }
    let pass = try TrainingPass(
      network, shapes: shapes, parameters: parameters.elements, gradients: parameters.gradients,
      lossValues: targets.filter { $0.loss != nil }.map(\.value),
      options: .init(
        recomputes: options.recompute, throughTime: options.throughTime,
        measuresActivations: parameters.followsStatistics),
      threads: threads)
    passes.append((shapes, pass))
    while passes.count > 1,
      passes.count > Trainer.mostPasses
        || passes.reduce(0, { $0 + $1.pass.byteCount }) > Trainer.passByteLimit
    {
      passes.removeFirst()
    }
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
      parameters.setActivations(of: pass)
      try pass.forward(batch.inputs, trains: trains)
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
      if trains {
        try pass.backward()
        parameters.takeActivationGradients(of: pass, learn: options.quantizer != .lsq)
      }
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

  /// A run from its first step, or from a state that a checkpoint holds.
  /// - Parameters:
  ///   - resuming: the state to go on from; its options must be those of this trainer.
  ///   - report: called after each step.
  ///   - keep: called after each step with the state, to write a checkpoint; false stops the run.
  /// - Returns: the loss on the samples that are held out, before training and of the best state, in
  ///   which the parameters are left; nil if the run was stopped.
  /// - Throws: `usage` if the state is of another run.
  package func run(
    resuming: TrainingState? = nil,
    report: (StepReport) throws(QMError) -> Void,
    keep: (TrainingState) throws(QMError) -> Bool = { (_) in true }
  ) throws(QMError) -> (before: Double, after: Double)? {
    var state: TrainingState
    if let resuming {
      try resuming.requireMade(with: options, from: parameters.snapshot())
      state = resuming
      try parameters.restore(state.numbers)
    } else {
      state = try start(rate: try chosenRate(), steps: options.steps)
    }
    while state.step < state.stepCount {
      let done = try step(&state)
      try report(done)
      state.numbers = parameters.snapshot()
      guard try keep(state) else { return nil }
    }
    try parameters.restore(state.best)
    return (state.lossBefore, state.bestLoss)
  }

  /// The state in front of the first step.
  private func start(rate: Float, steps: Int) throws(QMError) -> TrainingState {
    let loss = try heldOutLoss()
    guard loss.isFinite else {
      throw .unsupported(
        "an output is infinite or NaN before training, so that there is no loss; train others",
        remedies: .cutBefore)
    }
    return TrainingState(
      options, parameters, rate: rate, steps: steps, loss: loss, bits: bits())
  }

  /// Factors of the usual rate that are tried, and the share of the steps that each try takes. Short
  /// runs flatter larger ones.
  private static let (rateFactors, tryShare): ([Float], Int) = ([0.3, 1], 10)
  private static let fewestTrySteps = 8

  /// The rate of the options, or the one of two with which a short run ends best.
  private func chosenRate() throws(QMError) -> Float {
    if let rate = options.rate { return rate }
    let usual: Float =
      switch options.optimizer {
      case .sgd: 0.01
      case .adam, .adamw: isRelative ? 0.005 : 0.001
      }
    guard options.steps >= Trainer.tryShare * Trainer.fewestTrySteps / 2 else { return usual }
    let steps = max(options.steps / Trainer.tryShare, Trainer.fewestTrySteps)
    let numbers = parameters.snapshot()
    var best: (rate: Float, loss: Double)?
    for factor in Trainer.rateFactors {
      var state = try start(rate: usual * factor, steps: steps)
      var last = Double.infinity
      while state.step < state.stepCount {
        let done = try step(&state)
        guard done.divergence == nil else {
          last = .infinity
          break
        }
        last = done.heldOutLoss ?? last
      }
      try parameters.restore(numbers)
      if last < best?.loss ?? .infinity { best = (state.rate, last) }
    }
    return best?.rate ?? usual * Trainer.rateFactors[0]
  }

  /// Takes one step.
  private func step(_ state: inout TrainingState) throws(QMError) -> StepReport {
    let step = state.step
    let lastScaleStep = state.stepCount - state.stepCount / 10
    featureShare = featureShare(at: Float(step) / Float(state.stepCount))
    parameters.clearGradients()
    let indices = order.batch(step: step, size: options.batch * options.accumulate)
    let loss = try run(indices, trains: true)
    parameters.finishGradients()
    scaleGradients()
    let rate = state.rate * state.schedule.factor(at: step) * state.reduction
    if options.clip == .greedy, step % Trainer.greedyInterval == 0, loss.isFinite {
      try findThresholds(&state, indices, rate: rate)
    }
    let outcome = state.clipping.apply(to: parameters.slots, threads)
    var done = StepReport(
      step: step, loss: loss, rate: rate, norm: outcome.norm, threshold: outcome.threshold,
      isClipped: outcome.isClipped)
    state.firstLoss = state.firstLoss ?? max(loss, state.lossBefore)
    // One hard sample is no divergence.
    state.recentLoss += Trainer.recent * (loss - state.recentLoss)
    state.step += 1
    guard loss.isFinite, outcome.norm.isFinite,
      state.recentLoss <= Trainer.divergence * (state.firstLoss ?? loss)
    else {
      return try goBack(
        &state, done, "step \(step + 1): loss \(loss), gradient norm \(outcome.norm)")
    }
    done.saturatedShare =
      Double(parameters.saturation.beyond) / Double(max(parameters.saturation.count, 1))
    state.optimizer.update(
      parameters.slots, rates: rates(rate, movesScales: step < lastScaleStep), threads)
    guard parameters.areSane else {
      return try goBack(&state, done, "step \(step + 1): weights beyond all bounds")
    }
    parameters.boundScales()
    done.bits = state.pressure.apply(to: parameters, parameters.histograms(), threads)
    if step + 1 == lastScaleStep { fitScales(to: state.pressure.budget) }
    parameters.round()
    done.flips = parameters.flipCount
    let interval = max(state.stepCount / Trainer.measurements, 1)
    if (step + 1) % interval == 0 || step + 1 == state.stepCount {
      let heldOut = try heldOutLoss()
      done.heldOutLoss = heldOut
      state.schedule.note(heldOutLoss: heldOut)
      if heldOut < state.bestLoss, bits() <= state.pressure.budget * Trainer.tolerance {
        (state.bestLoss, state.best) = (heldOut, parameters.snapshot())
      }
    }
    return done
  }

  /// Back to the best state with half the rate; the last time, to the end.
  private func goBack(
    _ state: inout TrainingState, _ report: StepReport, _ found: String
  ) throws(QMError) -> StepReport {
    try parameters.restore(state.best)
    state.optimizer = Optimizer(options, for: parameters.slots)
    state.returns += 1
    state.reduction /= 2
    state.recentLoss = state.firstLoss ?? 0
    if state.returns > Trainer.mostReturns { state.step = state.stepCount }
    var report = report
    report.divergence = found
    return report
  }

  /// Looks for the thresholds of greedy clipping: what a step with each would do to the loss of the
  /// step's samples, with everything taken back.
  private func findThresholds(
    _ state: inout TrainingState, _ indices: [Int], rate: Float
  ) throws(QMError) {
    let numbers = parameters.snapshot()
    let gradients = parameters.slots.map {
      Array(UnsafeBufferPointer(start: $0.gradients, count: $0.count))
    }
    func restoreGradients() {
      for (slot, gradients) in zip(parameters.slots, gradients) {
        for index in gradients.indices { slot.gradients[index] = gradients[index] }
      }
    }
    let (clipping, optimizer) = (state.clipping, state.optimizer)
    let factors = try GreedyThresholds().factors(
      norms: parameters.slots.map { Clipping.squaredNorm($0.gradients, $0.count).squareRoot() },
      threshold: options.clipThreshold, loss: try run(indices, trains: false),
      lossAfter: { (factors) throws(QMError) in
        var (clipping, optimizer) = (clipping, optimizer)
        clipping.layerFactors = factors
        _ = clipping.apply(to: parameters.slots, threads)
        optimizer.update(parameters.slots, rates: rates(rate, movesScales: true), threads)
        var loss = Double.infinity
        if parameters.areSane {
          parameters.boundScales()
          parameters.round()
          loss = try run(indices, trains: false)
        }
        try parameters.restore(numbers)
        restoreGradients()
        return loss
      })
    state.clipping.layerFactors = factors
  }

  /// The factor of the features. With many samples the outputs alone teach enough in the end, and
  /// features that must agree leave less freedom.
  private func featureShare(at progress: Float) -> Float {
    let last = min(1, Trainer.fewSamples / Float(max(order.count, 1)))
    return options.featureShare * (1 - progress * (1 - last))
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

  /// Scales of codes have many weights each: their gradients are divided by √(N · Q).
  ///
  /// Source: Esser et al. 2020, "Learned Step Size Quantization", section 2.2.
  private func scaleGradients() {
    for slot in parameters.slots where slot.kind == .scales {
      let factor = 1 / (Float(slot.weightsPerScale) * slot.largestCode).squareRoot()
      for index in 0..<slot.count { slot.gradients[index] *= factor }
    }
  }

  /// Whether rates are relative.
  private var isRelative: Bool {
    options.optimizer != .sgd && parameters.slots.contains { $0.kind == .scales }
  }

  /// The rate of each slot. Adam changes each number by about the rate, whatever its gradient, so that
  /// with codes the rate is relative: to the scale of the codes for weights and their scales, to the median
  /// magnitude for other numbers.
  ///
  /// Source: Shazeer and Stern 2018, "Adafactor", section 8 (relative step size).
  private func rates(_ rate: Float, movesScales: Bool) -> [Float] {
    parameters.slots.map { slot in
      if slot.kind == .statistics || (slot.kind == .scales && !movesScales) { return 0 }
      guard isRelative else { return rate }
      let factor: Float =
        switch slot.kind {
        case .weights: 1
        case .shifts: Trainer.shiftRate
        case .scales: Trainer.scaleRate
        case .statistics: 0
        }
      return rate * factor * max(parameters.unit(of: slot), 1e-4)
    }
  }
}

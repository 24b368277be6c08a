import QMFormat
import QMOperations
import QMReport
import QMTensor

/// Trains the parameters of a network on samples, with the float network as teacher.
package final class Trainer {
  package let parameters: Parameters
  private let objective: TrainingObjective
  private let options: TrainingOptions
  private let threads: ThreadPool
  private let order: ShuffledOrder
  private let heldOut: [Int]
  /// Steps of a run.
  package let stepCount: Int

  /// The relative rate of scales beside that of weights: all codes of a channel depend on its scale.
  private static let scaleRate: Float = 0.1
  /// The same for biases, on which whole channels depend.
  private static let shiftRate: Float = 0.2

  /// Steps from one look-ahead of greedy clipping to the next.
  private static let greedyInterval = 20
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
    guard source.count >= 2 else {
      throw .invalidInput("\(source.count) sample; training needs at least 2")
    }
    self.parameters = parameters
    self.options = options
    self.threads = threads
    objective = try TrainingObjective(
      network, parameters, teacher: program, source, options, threads: threads)
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
    stepCount = try options.stepCount(samples: order.count)
  }

  /// Number of samples that are trained on, and held out.
  package var sampleCounts: (trained: Int, heldOut: Int) { (order.count, heldOut.count) }

  // MARK: Training

  /// What the samples that are held out show.
  package struct Outcome {
    /// Mean loss, before training and of the best state.
    package let loss: (before: Double, after: Double)
    /// The task's metric.
    package let metric: (before: MetricReport, after: MetricReport)
  }

  /// A run from its first step, or from a state that a checkpoint holds.
  /// - Parameters:
  ///   - resuming: the state to go on from, of the same options and parameters.
  ///   - report: called after each step.
  ///   - keep: called after each step with the state, to write a checkpoint; false stops the run.
  /// - Returns: what was gained by the best state, in which the parameters are left; nil if the run was
  ///   stopped.
  /// - Throws: `unsupported` if there is no loss, or training diverged before the weights were pruned.
  package func run(
    resuming: TrainingState? = nil,
    report: (StepReport) throws(QMError) -> Void,
    keep: (TrainingState) throws(QMError) -> Bool = { (_) in true }
  ) throws(QMError) -> Outcome? {
    let before = try objective.measure(heldOut)
    guard before.loss.isFinite else {
      throw .unsupported(
        "an output is infinite or NaN before training, so that there is no loss; train others",
        remedies: .cutBefore)
    }
    var state: TrainingState
    if let resuming {
      state = resuming
      try parameters.restore(state.numbers)
    } else {
      let rate = try chosenRate(lossBefore: before.loss)
      state = start(rate: rate, steps: stepCount, loss: before.loss)
    }
    while state.step < state.stepCount {
      let done = try step(&state)
      try report(done)
      state.numbers = parameters.snapshot()
      guard try keep(state) else { return nil }
    }
    guard state.bestLoss.isFinite else {
      throw .unsupported("training diverged before the weights were pruned; train at a lower rate")
    }
    try parameters.restore(state.best)
    let after = try objective.measure(heldOut)
    return Outcome(loss: (before.loss, after.loss), metric: (before.metric, after.metric))
  }

  /// The state in front of the first step.
  /// - Parameter loss: on the samples that are held out.
  private func start(rate: Float, steps: Int, loss: Double) -> TrainingState {
    TrainingState(options, parameters, rate: rate, steps: steps, loss: loss, bits: bits())
  }

  /// Factors of the usual rate that are tried, and the share of the steps that each try takes. Short
  /// runs flatter larger ones.
  private static let (rateFactors, tryShare): ([Float], Int) = ([0.3, 1], 10)
  private static let fewestTrySteps = 8

  /// The rate of the options, or the one of two with which a short run ends best; the larger one if no
  /// short run ends better than it begins.
  private func chosenRate(lossBefore: Double) throws(QMError) -> Float {
    if let rate = options.rate { return rate }
    let usual: Float =
      switch options.optimizer {
      case .sgd: 0.01
      case .adam, .adamw: isRelative ? 0.005 : 0.001
      }
    guard stepCount >= Trainer.tryShare * Trainer.fewestTrySteps / 2 else { return usual }
    let steps = max(stepCount / Trainer.tryShare, Trainer.fewestTrySteps)
    let numbers = parameters.snapshot()
    var tries: [(rate: Float, loss: Double)] = []
    for factor in Trainer.rateFactors {
      var state = start(rate: usual * factor, steps: steps, loss: lossBefore)
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
      tries.append((state.rate, last))
    }
    return Trainer.bestRate(of: tries, lossBefore: lossBefore) ?? usual * Trainer.rateFactors[0]
  }

  /// The rate whose short run ended best; the largest one if none ended better than it began: a run so
  /// far from its aim needs the larger steps.
  /// - Parameter tries: rates in ascending order; an infinite loss is that of a run that diverged.
  /// - Returns: nil if all diverged.
  package static func bestRate(
    of tries: [(rate: Float, loss: Double)], lossBefore: Double
  ) -> Float? {
    let finite = tries.filter { $0.loss.isFinite }
    guard let best = finite.min(by: { $0.loss < $1.loss }) else { return nil }
    return best.loss < lossBefore ? best.rate : finite.last?.rate
  }

  /// Takes one step.
  private func step(_ state: inout TrainingState) throws(QMError) -> StepReport {
    let step = state.step
    let lastScaleStep = state.stepCount - state.stepCount / 10
    let indices = order.batch(step: step, size: options.batch * options.accumulate)
    let loss = try addGradients(
      of: indices, step: step, featureShare: featureShare(at: Float(step) / Float(state.stepCount)))
    scaleGradients()
    state.pruning?.clearGradients(of: parameters.slots)
    let updates = state.segments?.add(parameters.slots)
    let rate = state.rate * state.schedule.factor(at: step) * state.reduction
    let rates = rates(rate, movesScales: step < lastScaleStep, updates)
    if options.clip == .greedy, step % Trainer.greedyInterval == 0, loss.isFinite {
      try findThresholds(&state, indices, rates: rates)
    }
    let outcome = state.clipping.apply(to: parameters.slots, threads)
    var done = StepReport(
      step: step, loss: loss, rate: rate, norm: outcome.norm, threshold: outcome.threshold,
      isClipped: outcome.isClipped)
    state.step += 1
    let hasDiverged = state.divergence.add(
      loss, mayRise: step <= state.pruning?.lastUpdate ?? -1)
    guard !hasDiverged, outcome.norm.isFinite else {
      return try goBack(
        &state, done, "step \(step + 1): loss \(loss), gradient norm \(outcome.norm)")
    }
    done.saturatedShare =
      Double(parameters.saturation.beyond) / Double(max(parameters.saturation.count, 1))
    if let updates {
      done.updatedShare = Double(updates.count { $0 }) / Double(max(updates.count, 1))
    }
    state.optimizer.update(parameters.slots, rates: rates, threads)
    guard parameters.areSane else {
      return try goBack(&state, done, "step \(step + 1): weights beyond all bounds")
    }
    parameters.boundScales()
    done.bits = state.pressure.apply(to: parameters, parameters.histograms(), threads)
    if step + 1 == lastScaleStep { fitScales(to: state.pressure.budget) }
    state.pruning?.apply(to: parameters.slots, step: step)
    parameters.round()
    done.flips = parameters.flipCount
    let interval = max(state.stepCount / Trainer.measurements, 1)
    if (step + 1) % interval == 0 || step + 1 == state.stepCount {
      let measured = try objective.measure(heldOut)
      (done.heldOutLoss, done.metric) = (measured.loss, measured.metric)
      state.schedule.note(heldOutLoss: measured.loss)
      if measured.loss < state.bestLoss, bits() <= state.pressure.budget * Trainer.tolerance,
        step >= state.pruning?.lastUpdate ?? 0
      {
        (state.bestLoss, state.best) = (measured.loss, parameters.snapshot())
      }
    }
    return done
  }

  /// Adds the gradients of a step's samples, those of each micro-batch rounded if they have 8 bits.
  /// - Returns: the mean loss of the samples.
  private func addGradients(
    of indices: [Int], step: Int, featureShare: Float
  ) throws(QMError) -> Double {
    parameters.clearGradients()
    guard options.gradientBits == .eight else {
      let loss = try objective.addGradients(of: indices, featureShare: featureShare)
      parameters.finishGradients()
      return loss
    }
    let rounding = GradientRounding(seed: options.seed, scales: options.scalesGradients)
    var sums = parameters.slots.map { [Float](repeating: 0, count: $0.count) }
    var place = 0
    let loss = try objective.addGradients(of: indices, featureShare: featureShare) {
      parameters.finishGradients()
      rounding.apply(
        to: parameters.slots, step: step * indices.count + place,
        codeScales: parameters.scales(ofSlot:))
      place += 1
      for (slot, number) in zip(parameters.slots, sums.indices) {
        for index in 0..<slot.count {
          sums[number][index] += slot.gradients[index]
          slot.gradients[index] = 0
        }
      }
    }
    for (slot, sums) in zip(parameters.slots, sums) {
      slot.gradients.update(from: sums, count: slot.count)
    }
    return loss
  }

  /// Back to the best state with half the rate; the last time, to the end.
  private func goBack(
    _ state: inout TrainingState, _ report: StepReport, _ found: String
  ) throws(QMError) -> StepReport {
    try parameters.restore(state.best)
    state.optimizer = Optimizer(options, for: parameters.slots)
    state.segments = SegmentedAccumulation(options, parameters.slots)
    state.returns += 1
    state.reduction /= 2
    state.divergence.restart()
    if state.returns > Trainer.mostReturns { state.step = state.stepCount }
    var report = report
    report.divergence = found
    return report
  }

  /// Looks for the thresholds of greedy clipping: what a step with each would do to the loss of the
  /// step's samples, with everything taken back.
  private func findThresholds(
    _ state: inout TrainingState, _ indices: [Int], rates: [Float]
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
      threshold: options.clipThreshold, loss: try objective.measure(indices).loss,
      lossAfter: { (factors) throws(QMError) in
        var (clipping, optimizer) = (clipping, optimizer)
        clipping.layerFactors = factors
        _ = clipping.apply(to: parameters.slots, threads)
        optimizer.update(parameters.slots, rates: rates, threads)
        var loss = Double.infinity
        if parameters.areSane {
          parameters.boundScales()
          parameters.round()
          loss = try objective.measure(indices).loss
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
  /// - Parameter updates: which slots have collected enough; nil for all.
  private func rates(_ rate: Float, movesScales: Bool, _ updates: [Bool]?) -> [Float] {
    parameters.slots.enumerated().map { place, slot in
      if slot.kind == .statistics || slot.kind == .scales && !movesScales
        || updates?[place] == false
      {
        return 0
      }
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

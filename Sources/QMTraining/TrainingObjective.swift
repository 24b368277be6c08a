import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// What training lowers: the loss of a network's outputs against labels and the float network, and of
/// the results of its products against those of the float network.
final class TrainingObjective {
  private let network: TrainingNetwork
  private let parameters: Parameters
  private let options: TrainingOptions
  private let threads: ThreadPool
  private let teacher: Session
  private let samples: TrainingSamples
  /// What the loss depends on: the outputs, then features.
  private let targets: [Target]
  private let featureCount: Int
  /// The output that the metric is of without labels, and what it holds.
  private let judged: (value: Int, name: String, form: TaskMetric.Form)
  /// One pass for each set of input shapes.
  private var passes: [(shapes: [[Int]], pass: TrainingPass)] = []

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

  /// A term of the loss of a batch.
  private struct Term {
    let value: Int
    let loss: OutputLoss
    let target: Tensor
    /// Its factor in the loss.
    let share: Float
    /// What the metric looks at in it; nil if it does not.
    let metric: (name: String, form: TaskMetric.Form)?
  }

  /// Passes that are kept.
  private static let mostPasses = 8
  /// Bytes that they may take together; a single one may take more.
  private static let passByteLimit = 1 << 30

  /// - Throws: `unsupported` without an output that has a loss; errors of runs.
  init(
    _ network: TrainingNetwork, _ parameters: Parameters, teacher program: Program,
    _ source: any SampleSource, _ options: TrainingOptions, threads: ThreadPool
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
    let shown = try (0..<min(2, source.count)).map { (index) throws(QMError) in
      try source.inputs(of: index)
    }
    let parts = try JudgedParts(of: program, model, on: shown)
    let losses = OutputLoss.distillation(of: program, parts)
    let outputs = zip(network.outputs, program.outputs).enumerated().map { index, pair in
      Target(
        name: pair.0.name, isOutput: true, value: pair.0.value, teacherValue: pair.1.value,
        loss: losses[index])
    }
    let forms = outputs.compactMap { output in
      output.loss.map { loss in
        (
          value: output.value, name: output.name,
          form: parts.scores.contains(output.name)
            ? .classes(axis: -1) : TaskMetric.Form(loss.form)
        )
      }
    }
    guard let judged = forms.first(where: { $0.form != .numbers }) ?? forms.first else {
      throw .unsupported("no output is float32, so that there is no loss")
    }
    self.judged = judged
    let features =
      options.featureShare > 0
      ? TrainingObjective.features(network, program, without: outputs) : []
    targets = outputs + features
    featureCount = features.count
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

  /// Runs samples forward and backward and adds the gradients of their mean loss.
  /// - Parameters:
  ///   - featureShare: factor of the features.
  ///   - isDone: called after the backward run of each micro-batch.
  /// - Returns: the mean loss of the samples.
  func addGradients(
    of indices: [Int], featureShare: Float, afterMicroBatch isDone: () -> Void = {}
  ) throws(QMError) -> Double {
    var total = 0.0
    for batch in try samples.microBatches(indices, most: options.batch) {
      let pass = try forward(batch, trains: true)
      for term in try terms(of: batch, pass, featureShare: featureShare) where term.share > 0 {
        total += add(
          term, of: pass, items: batch.samples.count, weight: term.share / Float(indices.count))
      }
      try pass.backward()
      parameters.takeActivationGradients(of: pass, learn: options.quantizer != .lsq)
      isDone()
    }
    return total
  }

  /// What samples show of the network as it is: the mean loss, without features, and the metric.
  func measure(_ indices: [Int]) throws(QMError) -> (loss: Double, metric: MetricReport) {
    var loss = 0.0
    var metric: (name: String, sums: TaskMetric)?
    for batch in try samples.microBatches(indices, most: options.batch) {
      let pass = try forward(batch, trains: false)
      for term in try terms(of: batch, pass, featureShare: 0) {
        loss += add(
          term, of: pass, items: batch.samples.count, weight: term.share / Float(indices.count))
        guard let judged = term.metric, let output = pass.elements(of: term.value).baseAddress
        else { continue }
        var known = metric ?? (judged.name, TaskMetric(judged.form))
        term.target.withElements(as: Float.self) { target in
          guard let target = target.baseAddress else { return }
          known.sums.add(output, target, shape: pass.shape(of: term.value))
        }
        metric = known
      }
    }
    let known = metric ?? (judged.name, TaskMetric(judged.form))
    return (loss, known.sums.report(of: known.name, hasLabels: options.labels != nil))
  }

  private func forward(
    _ batch: TrainingSamples.MicroBatch, trains: Bool
  ) throws(QMError) -> TrainingPass {
    let pass = try pass(for: batch.inputs.map(\.shape))
    parameters.setActivations(of: pass)
    try pass.forward(batch.inputs, trains: trains)
    for target in targets {
      pass.gradient(of: target.value)?.update(
        repeating: 0, count: pass.shape(of: target.value).reduce(1, *))
    }
    return pass
  }

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
      passes.count > TrainingObjective.mostPasses
        || passes.reduce(0, { $0 + $1.pass.byteCount }) > TrainingObjective.passByteLimit
    {
      passes.removeFirst()
    }
    return pass
  }

  // MARK: Terms

  /// What the loss and the metric compare.
  private func terms(
    of batch: TrainingSamples.MicroBatch, _ pass: TrainingPass, featureShare: Float
  ) throws(QMError) -> [Term] {
    let teacherShare = options.labels == nil ? 1 : options.teacherShare
    var terms: [Term] = []
    if teacherShare > 0 {
      let known = try teacherValues(batch)
      for target in targets where featureShare > 0 || target.isOutput {
        guard let loss = target.loss, let elements = known[target.teacherValue] else { continue }
        let share = target.isOutput ? 1 : featureShare / Float(featureCount)
        let isJudged = options.labels == nil && target.value == judged.value
        terms.append(
          Term(
            value: target.value, loss: loss, target: elements, share: teacherShare * share,
            metric: isJudged ? (judged.name, judged.form) : nil))
      }
    }
    if let labels = batch.labels {
      let target = try labelledTarget()
      let (loss, elements) = try within(.sample(samples.name(of: batch.samples[0]))) {
        () throws(QMError) in
        try OutputLoss.labelled(
          target.loss?.form ?? .relative, shape: pass.shape(of: target.value), labels)
      }
      terms.append(
        Term(
          value: target.value, loss: loss, target: elements, share: 1 - teacherShare,
          metric: (target.name, TaskMetric.Form(loss.form))))
    }
    return terms
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

  /// Adds a term's loss of a batch and the gradient.
  /// - Returns: weight · Σ over the items.
  private func add(_ term: Term, of pass: TrainingPass, items: Int, weight: Float) -> Double {
    guard let gradient = pass.gradient(of: term.value),
      let output = pass.elements(of: term.value).baseAddress
    else { return 0 }
    return term.target.withElements(as: Float.self) { target in
      guard let target = target.baseAddress else { return 0 }
      return term.loss.add(
        output, target, shape: pass.shape(of: term.value), items: items, weight: weight,
        to: gradient)
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
}

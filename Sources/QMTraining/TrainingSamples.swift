import QMReport
import QMRuntime
import QMTensor

/// Samples for training: items that are put together to batches.
package final class TrainingSamples {
  private let source: any SampleSource
  /// The names of the network's inputs, in order.
  private let inputNames: [String]
  /// Whether items of equal shapes can be run together.
  package let canBatch: Bool
  /// The name of the labels among the samples' expected outputs; nil without labels.
  private let labelName: String?
  private var loaded: [Int: [Tensor]] = [:]
  private var loadedByteCount = 0

  /// Bytes of samples that are kept after the first use.
  private static let keptByteCount = 1 << 30

  package var count: Int { source.count }

  /// - Parameters:
  ///   - source: the samples.
  ///   - labels: the name of the labels among the samples' expected outputs.
  ///   - model: the float network, which shows whether items can be run together.
  /// - Throws: errors of the samples and of a run.
  package init(
    _ source: any SampleSource, labels: String? = nil, of model: Model
  ) throws(QMError) {
    self.source = source
    labelName = labels
    inputNames = model.inputs.map(\.name)
    canBatch = try TrainingSamples.canBatch(source, model)
  }

  /// Whether two items that are put together along the first axis give the outputs of each, one after
  /// the other.
  private static func canBatch(_ source: any SampleSource, _ model: Model) throws(QMError) -> Bool {
    guard source.count > 1,
      model.inputs.allSatisfy({ input in
        input.type.shape.axes.first.map { $0.extent == nil } ?? false
      })
    else { return false }
    let names = model.inputs.map(\.name)
    func ordered(_ index: Int) throws(QMError) -> [Tensor] {
      let inputs = try source.inputs(of: index)
      return names.compactMap { inputs[$0] }
    }
    let (first, second) = (try ordered(0), try ordered(1))
    guard first.map(\.type) == second.map(\.type),
      let together = try joined([first, second])
    else { return false }
    let session = Session(model)
    func run(_ tensors: [Tensor]) throws(QMError) -> [String: Tensor] {
      try session.run(Dictionary(uniqueKeysWithValues: zip(names, tensors)))
    }
    let (one, other) = (try run(first), try run(second))
    // A network that takes no batch may refuse it.
    guard let both = try? run(together) else { return false }
    return both.allSatisfy { name, tensor in
      guard let left = one[name], let right = other[name] else { return false }
      return Array(left.bytes) + Array(right.bytes) == Array(tensor.bytes)
    }
  }

  /// Items along the first axis.
  private static func joined(_ items: [[Tensor]]) throws(QMError) -> [Tensor]? {
    guard items.count > 1 else { return items.first }
    var result: [Tensor] = []
    for input in items[0].indices {
      let parts = items.map { $0[input] }
      guard let extent = parts[0].shape.first else { return nil }
      let whole = try Tensor(
        zeros: parts[0].elementType, [extent * parts.count] + parts[0].shape.dropFirst())
      var place = whole.buffer.base
      for part in parts where part.byteCount > 0 {
        place.copyMemory(from: part.bytes.baseAddress!, byteCount: part.byteCount)
        place += part.byteCount
      }
      result.append(whole)
    }
    return result
  }

  package func name(of index: Int) -> String { source.name(of: index) }

  private func item(_ index: Int) throws(QMError) -> [Tensor] {
    if let known = loaded[index] { return known }
    let inputs = try within(.sample(source.name(of: index))) { () throws(QMError) in
      try source.inputs(of: index)
    }
    var tensors = inputNames.compactMap { inputs[$0] }
    guard tensors.count == inputNames.count else {
      throw QMError.invalidInput("an input is missing").within(.sample(source.name(of: index)))
    }
    if let labelName {
      let labels = try TrainingSamples.labels(labelName, of: index, in: source)
      // One item of labels along the first axis, as of the inputs.
      tensors.append(
        labels.shape.isEmpty ? try labels.reshaped([1]) : labels)
    }
    let byteCount = tensors.reduce(0) { $0 + $1.byteCount }
    if loadedByteCount + byteCount <= TrainingSamples.keptByteCount {
      loaded[index] = tensors
      loadedByteCount += byteCount
    }
    return tensors
  }

  /// The labels of a sample.
  /// - Throws: `invalidInput` if it has none, with the sample as context.
  package static func labels(
    _ name: String, of index: Int, in source: any SampleSource
  ) throws(QMError) -> Tensor {
    try within(.sample(source.name(of: index))) { () throws(QMError) in
      guard let labels = try source.expectedOutputs(of: index)[name] else {
        throw .invalidInput(
          "no labels '\(name.abbreviated)': expected an array of that name in the archive, or a file "
            + "<sample>.\(name.abbreviated).npy")
      }
      return labels
    }
  }

  /// Items that are run together.
  package struct MicroBatch {
    package let inputs: [Tensor]
    package let labels: Tensor?
    /// Indices of the samples.
    package let samples: [Int]

    /// The inputs by name.
    func named(_ names: [String]) -> [String: Tensor] {
      Dictionary(uniqueKeysWithValues: zip(names, inputs))
    }
  }

  /// The inputs by name.
  package func named(_ batch: MicroBatch) -> [String: Tensor] { batch.named(inputNames) }

  /// Samples divided into runs: items of equal shapes together, at most `most` of them.
  package func microBatches(_ indices: [Int], most: Int) throws(QMError) -> [MicroBatch] {
    guard canBatch, most > 1 else {
      return try indices.map { (index) throws(QMError) in
        microBatch(try item(index), [index])
      }
    }
    var batches: [MicroBatch] = []
    // In the order in which the shapes are met.
    var groups: [(types: [ValueType], samples: [Int])] = []
    for index in indices {
      let types = try item(index).map(\.type)
      if let place = groups.firstIndex(where: { $0.types == types && $0.samples.count < most }) {
        groups[place].samples.append(index)
      } else {
        groups.append((types, [index]))
      }
    }
    for group in groups {
      let items = try group.samples.map { (index) throws(QMError) in try item(index) }
      guard let inputs = try TrainingSamples.joined(items) else {
        throw .internalFault("items without axes were taken for a batch")
      }
      batches.append(microBatch(inputs, group.samples))
    }
    return batches
  }

  private func microBatch(_ tensors: [Tensor], _ samples: [Int]) -> MicroBatch {
    MicroBatch(
      inputs: Array(tensors.prefix(inputNames.count)),
      labels: labelName == nil ? nil : tensors.last, samples: samples)
  }
}

/// Samples in an order that depends on a seed alone, each once an epoch.
package struct ShuffledOrder: Sendable {
  private let indices: [Int]
  private let seed: UInt64
  /// Samples of an epoch.
  package var count: Int { indices.count }

  package init(_ indices: [Int], seed: UInt64) {
    self.indices = indices
    self.seed = seed
  }

  /// The samples of a step: consecutive ones of the epochs' orders, one behind another.
  /// - Parameter step: counted from 0.
  package func batch(step: Int, size: Int) -> [Int] {
    guard !indices.isEmpty else { return [] }
    var result: [Int] = []
    var known: (epoch: Int, order: [Int])?
    for position in step * size..<(step + 1) * size {
      let (epoch, place) = position.quotientAndRemainder(dividingBy: indices.count)
      if known?.epoch != epoch { known = (epoch, order(epoch)) }
      if let order = known?.order { result.append(order[place]) }
    }
    return result
  }

  /// Fisher–Yates.
  private func order(_ epoch: Int) -> [Int] {
    var numbers = RandomNumbers(seed: seed, stream: epoch)
    var order = indices
    for last in stride(from: order.count - 1, to: 0, by: -1) {
      order.swapAt(last, numbers.next(below: last + 1))
    }
    return order
  }
}

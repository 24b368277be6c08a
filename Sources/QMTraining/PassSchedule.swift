import QMOperations
import QMRuntime
import QMTensor

/// The order of a pass's steps, and where in the arena each step finds its values.
///
/// The forward steps are cut into segments. Values that a later segment or the loss reads are kept until
/// their last use; the others of all segments but the last are given up with the segment, and computed
/// again by the same steps in front of the segment's backward steps. So the arena holds what the segments
/// pass on and the values of one segment, and the gradients are the same bits. One segment keeps all.
///
/// Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 3.
struct PassSchedule {
  enum Work {
    /// A number among the forward steps of the layout.
    case forward(Int)
    /// A number among the backward steps.
    case backward(Int)
  }

  struct Step {
    let work: Work
    /// The request of each operand and output; nil for those that the pass does not store.
    let inputs: [Int?]
    let outputs: [Int?]
  }

  /// Steps in front of the loss.
  private(set) var forward: [Step] = []
  /// Steps behind it.
  private(set) var backward: [Step] = []
  /// The requests of values when the loss is computed, by value.
  private(set) var atLoss: [Int: Int] = [:]
  /// The requests of gradients, by value.
  private(set) var gradients: [Int: Int] = [:]
  /// Where each request lies in the arena.
  private(set) var memory: MemoryPlan

  /// Numbers of segments that are tried beside one. Near √n for n steps the least memory is expected; where the
  /// values lie that segments pass on decides.
  private static let segmentCounts = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]

  /// The schedule that needs the least memory.
  /// - Parameter recomputes: whether there may be several segments.
  /// - Throws: `outOfMemory` if the sizes overflow.
  static func best(
    _ layout: PassLayout, lossValues: [Int], recomputes: Bool
  ) throws(QMError) -> PassSchedule {
    var best = try PassSchedule(layout, lossValues: lossValues, segments: 1)
    guard recomputes else { return best }
    for count in segmentCounts where count <= layout.forward.count {
      let other = try PassSchedule(layout, lossValues: lossValues, segments: count)
      if other.memory.byteCount < best.memory.byteCount { best = other }
    }
    return best
  }

  private init(
    _ layout: PassLayout, lossValues: [Int], segments: Int
  ) throws(QMError) {
    let atEnd = lossValues + layout.network.outputs.map(\.value)
    let recomputation = try Recomputation(layout, atEnd: atEnd, count: segments)
    var lifetimes = Lifetimes(layout)
    for input in layout.network.inputs { try lifetimes.write(input) }
    for index in layout.forward.indices {
      forward.append(try lifetimes.run(index))
    }
    lifetimes.time += 1
    for value in atEnd { lifetimes.read(value) }
    for value in lossValues where layout.receives.contains(value) {
      try lifetimes.beginGradient(value)
    }
    atLoss = lifetimes.current
    var segment = recomputation.segmentCount - 1
    for (index, step) in layout.backward.enumerated() {
      if recomputation.segments[step.forward] < segment {
        segment = recomputation.segments[step.forward]
        for again in recomputation.steps(of: segment) {
          backward.append(try lifetimes.run(again, keeping: recomputation.kept))
        }
      }
      backward.append(try lifetimes.runGradient(index))
    }
    gradients = lifetimes.gradients
    memory = try MemoryPlan(
      lifetimes.requests.map {
        .init(firstStep: $0.first, lastStep: $0.last, byteCount: $0.byteCount)
      })
  }
}

/// Which values each segment gives up, and which steps compute them again.
private struct Recomputation {
  let segmentCount: Int
  /// The segment of each forward step.
  let segments: [Int]
  /// Values that are not given up.
  let kept: Set<Int>
  private let layout: PassLayout

  /// - Parameters:
  ///   - atEnd: values that are read behind the last forward step.
  ///   - count: of segments, whose values take about the same bytes.
  init(_ layout: PassLayout, atEnd: [Int], count: Int) throws(QMError) {
    self.layout = layout
    segmentCount = count
    let nodes = layout.network.nodes
    let byteCounts = try layout.forward.map { (step) throws(QMError) in
      try nodes[step.node].outputs.map { (value) throws(QMError) in
        try layout.byteCount(of: value)
      }.reduce(0, +)
    }
    let total = max(byteCounts.reduce(0, +), 1)
    var before = 0
    var segments: [Int] = []
    var segmentOf: [Int: Int] = [:]
    var kept = Set(atEnd + layout.network.inputs)
    for (index, step) in layout.forward.enumerated() {
      let segment = min(before / max(total / count, 1), count - 1)
      segments.append(segment)
      before += byteCounts[index]
      for case let input? in nodes[step.node].inputs {
        if let origin = segmentOf[input], origin < segment { kept.insert(input) }
      }
      for output in nodes[step.node].outputs {
        segmentOf[output] = segment
        if segment == count - 1 { kept.insert(output) }
      }
    }
    (self.segments, self.kept) = (segments, kept)
  }

  /// The forward steps, in order, that compute what the backward steps of a segment read.
  func steps(of segment: Int) -> [Int] {
    var needed: Set<Int> = []
    for step in layout.backward where segments[step.forward] == segment {
      let node = layout.network.nodes[step.node]
      for position in step.kernel.readInputs where position < node.inputs.count {
        if let input = node.inputs[position] { needed.insert(input) }
      }
      for position in step.kernel.readOutputs { needed.insert(node.outputs[position]) }
    }
    var steps: [Int] = []
    for index in segments.indices.reversed() where segments[index] == segment {
      let node = layout.network.nodes[layout.forward[index].node]
      guard node.outputs.contains(where: { needed.contains($0) && !kept.contains($0) }) else {
        continue
      }
      steps.append(index)
      needed.formUnion(node.inputs.compactMap { $0 })
    }
    return steps.reversed()
  }
}

/// The lifetimes of values and gradients while the steps are put in order.
private struct Lifetimes {
  struct Request {
    let first: Int
    var last: Int
    let byteCount: Int
  }

  private let layout: PassLayout
  private(set) var requests: [Request] = []
  /// The request that holds each value now.
  private(set) var current: [Int: Int] = [:]
  private(set) var gradients: [Int: Int] = [:]
  /// Each step takes one, and so does the loss.
  var time = 0

  init(_ layout: PassLayout) { self.layout = layout }

  mutating func read(_ value: Int) {
    if let place = current[value] { requests[place].last = time }
  }

  mutating func write(_ value: Int) throws(QMError) {
    guard layout.isStored(value) else { return }
    current[value] = requests.count
    requests.append(.init(first: time, last: time, byteCount: try layout.byteCount(of: value)))
  }

  /// A forward step.
  /// - Parameter kept: values that are written where they are already.
  mutating func run(
    _ index: Int, keeping kept: Set<Int> = []
  ) throws(QMError) -> PassSchedule.Step {
    time += 1
    let node = layout.network.nodes[layout.forward[index].node]
    for case let input? in node.inputs { read(input) }
    for output in node.outputs {
      if kept.contains(output) { read(output) } else { try write(output) }
    }
    return step(.forward(index), node)
  }

  mutating func runGradient(_ index: Int) throws(QMError) -> PassSchedule.Step {
    time += 1
    let own = layout.backward[index]
    let node = layout.network.nodes[own.node]
    for position in own.kernel.readInputs where position < node.inputs.count {
      if let input = node.inputs[position] { read(input) }
    }
    for position in own.kernel.readOutputs { read(node.outputs[position]) }
    for value in own.begins { try beginGradient(value) }
    for value in node.inputs.compactMap({ $0 }) + node.outputs {
      if let place = gradients[value] { requests[place].last = time }
    }
    return step(.backward(index), node)
  }

  mutating func beginGradient(_ value: Int) throws(QMError) {
    guard gradients[value] == nil, !layout.network.isParameter(value) else { return }
    gradients[value] = requests.count
    requests.append(
      .init(
        first: time, last: time,
        byteCount: try Tensor.byteCount(of: .float32, [layout.count(of: value)])))
  }

  private func step(
    _ work: PassSchedule.Work, _ node: TrainingNetwork.Node
  ) -> PassSchedule.Step {
    .init(
      work: work, inputs: node.inputs.map { $0.flatMap { current[$0] } },
      outputs: node.outputs.map { current[$0] })
  }
}

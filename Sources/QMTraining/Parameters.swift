import QMOperations
import QMTensor

/// The numbers that training changes, their gradients, and the rounded weights that the network reads.
///
/// A parameter with codes has two sets of numbers: the weights w, and the scales s of their codes. The
/// network reads
///
///     ŵ = s · clamp(roundToNearestEven(w · (1 / s)), lowest, highest)
///
/// which is the rounding of the converter. Its gradient with respect to w is that of the
/// straight-through estimator: that of ŵ within the range of the codes, 0 beyond it. What s is, and its
/// gradient, is up to the ``Quantizer``. If s follows a statistic of the weights, the slot of the scales
/// holds s divided by the statistic, which stays; the gradient of s is passed on to the weights.
///
/// The scale and the offset of an activation are slots too, if they are learned.
package final class Parameters {
  /// Numbers that an optimizer changes together.
  package struct Slot {
    package enum Kind: Hashable {
      /// Weights of a product or table.
      case weights
      /// Biases, and scales and shifts of normalizations.
      case shifts
      /// Scales of codes, and offsets of activations.
      case scales
      /// Running means and variances of batch normalizations, and statistics of activations. Forward
      /// runs change them; they have no gradient.
      case statistics
    }

    package let name: String
    package let kind: Kind
    package let values: Floats
    package let gradients: Floats
    package let count: Int
    /// Numbers of one output unit; ``count`` if the slot is no matrix of weights.
    package let unitLength: Int
    /// For scales, the number of weights of one scale; 1 for activations; otherwise 0.
    package let weightsPerScale: Int
    /// For scales, the largest code.
    package let largestCode: Float

    package init(
      name: String, kind: Kind, values: Floats, gradients: Floats, count: Int, unitLength: Int,
      weightsPerScale: Int = 0, largestCode: Float = 0
    ) {
      self.name = name
      self.kind = kind
      self.values = values
      self.gradients = gradients
      self.count = count
      self.unitLength = unitLength
      self.weightsPerScale = weightsPerScale
      self.largestCode = largestCode
    }
  }

  package internal(set) var slots: [Slot] = []
  /// What the network reads for each parameter.
  package private(set) var elements: [Floats] = []
  /// Where the backward run adds the gradient of each parameter.
  package private(set) var gradients: [Floats] = []
  private var rounded: [Rounded] = []
  var activations: [TrainedActivation] = []
  var following: [FollowingActivation] = []
  /// Elements of activations that were rounded since the gradients were cleared, and those of them beyond
  /// the codes.
  package internal(set) var saturation = (count: 0, beyond: 0)

  private var buffers: [Buffer] = []

  /// Activations of the network that share a learned scale.
  struct TrainedActivation {
    /// Names of the values that are rounded.
    let names: Set<String>
    let initial: QuantizationParameters
    /// Numbers of the network's activations.
    let places: [Int]
    let scale: Int
    /// The slot of β; nil if the zero point stays.
    let offset: Int?
    var sums = RoundingSums()
  }

  /// A parameter with codes.
  private struct Rounded {
    let parameter: Int
    let weights: Int
    let scales: Int
    let runs: [ScaleRun]
    let largestCode: Float
    /// Whether codes have a width; otherwise their entropy is what counts.
    let hasWidth: Bool
    /// Whether the scales are stored with few significant bits.
    let hasShortScales: Bool
    /// The scales as the file stores them.
    let storedScales: Floats
    /// Bounds of the slot of the scales.
    var leastScales: [Float]
    /// For scales that follow a statistic, what the statistic is at least.
    let leastUnits: [Double]
    var statistics: [StepStatistics] = []
    /// The grid of each scale as it is now.
    var grids: [RoundingGrid] = []
    /// The scales of the last rounding.
    var readScales: [Float] = []
  }

  /// Consecutive weights with one scale.
  private struct ScaleRun {
    let range: Range<Int>
    let scale: Int
  }

  let quantizer: Quantizer
  let network: TrainingNetwork
  private let threads: ThreadPool

  /// Training starts with the codes of the converter. Their weights start where they were before
  /// rounding, or at the nearest place that has the same code: from the middle of their codes, all
  /// weights with similar gradients would change their codes at the same step.
  /// - Parameters:
  ///   - weights: the weights before rounding, by the name of the parameter; nil for the middle.
  ///   - largestCode: of each parameter with codes.
  ///   - hasWidth: whether this code bounds a width, not only what training may reach.
  /// - Throws: `outOfMemory`.
  package init(
    of network: TrainingNetwork, threads: ThreadPool, quantizer: Quantizer = .lsq,
    weights: (TrainingNetwork.Parameter) -> Tensor? = { _ in nil },
    hasWidth: (TrainingNetwork.Parameter) -> Bool = { _ in false },
    largestCode: (TrainingNetwork.Parameter) -> Int32
  ) throws(QMError) {
    self.network = network
    self.threads = threads
    self.quantizer = quantizer
    for (index, parameter) in network.parameters.enumerated() {
      let shape = parameter.initial.shape
      let count = parameter.initial.elementCount
      let isMatrix = shape.count > 1
      let values = try floats(copying: parameter.initial)
      let gradient = try floats(count)
      slots.append(
        Slot(
          name: parameter.name,
          kind: parameter.isStatistic ? .statistics : isMatrix ? .weights : .shifts,
          values: values,
          gradients: gradient, count: count,
          unitLength: isMatrix ? max(count / max(shape[0], 1), 1) : count, weightsPerScale: 0,
          largestCode: 0))
      gradients.append(gradient)
      guard let codes = parameter.codes else {
        elements.append(values)
        continue
      }
      elements.append(try floats(count))
      let scales = codes.scales.elementCount
      let largest = Float(largestCode(parameter))
      rounded.append(
        Rounded(
          parameter: index, weights: slots.count - 1, scales: slots.count,
          runs: Parameters.runs(shape, codes.granularity), largestCode: largest,
          hasWidth: hasWidth(parameter), hasShortScales: Parameters.areShort(codes.scales),
          storedScales: try floats(copying: codes.scales), leastScales: [],
          leastUnits: codes.scales.elements(as: Float.self).map { Double($0) / 4 }))
      if let before = weights(parameter), before.type == parameter.initial.type,
        let last = rounded.last
      {
        startFrom(before, last)
      }
      slots.append(
        Slot(
          name: parameter.name + ".scales", kind: .scales,
          values: try floats(copying: codes.scales), gradients: try floats(scales), count: scales,
          unitLength: scales, weightsPerScale: count / max(scales, 1), largestCode: largest))
      relateScales(&rounded[rounded.count - 1])
    }
    try addActivations()
    round()
    flipCount = 0
  }

  /// Divides the scales of the converter by the statistic that they follow.
  private func relateScales(_ rounded: inout Rounded) {
    let slot = slots[rounded.scales]
    rounded.statistics = statistics(rounded)
    for index in 0..<slot.count {
      slot.values[index] /= unit(rounded, index)
      rounded.leastScales.append(slot.values[index] / Parameters.finest)
    }
  }

  /// The share of a code's width, to each side of its middle, in which its weights may start.
  private static let startingShare: Float = 0.25

  private func startFrom(_ weights: Tensor, _ rounded: Rounded) {
    let (values, scales) = (slots[rounded.weights].values, rounded.storedScales)
    weights.withElements(as: Float.self) { weights in
      for run in rounded.runs {
        let reach = Parameters.startingShare * scales[run.scale]
        for index in run.range {
          values[index] = min(max(weights[index], values[index] - reach), values[index] + reach)
        }
      }
    }
  }

  func floats(_ count: Int) throws(QMError) -> Floats {
    let buffer = try Buffer.pages(byteCount: max(4 * count, 1))
    buffers.append(buffer)
    return buffer.base.assumingMemoryBound(to: Float.self)
  }

  private func floats(copying tensor: Tensor) throws(QMError) -> Floats {
    let target = try floats(tensor.elementCount)
    tensor.withElements(as: Float.self) { elements in
      guard let base = elements.baseAddress else { return }
      target.update(from: base, count: elements.count)
    }
    return target
  }

  private static func runs(_ shape: [Int], _ granularity: Granularity) -> [ScaleRun] {
    let count = shape.reduce(1, *)
    switch granularity {
    case .perTensor: return [ScaleRun(range: 0..<count, scale: 0)]
    case .perChannel(let axis):
      let inner = shape[(axis + 1)...].reduce(1, *)
      return (0..<count / max(inner, 1)).map {
        ScaleRun(range: $0 * inner..<($0 + 1) * inner, scale: $0 % shape[axis])
      }
    case .perGroup(let axis, let size):
      let (inner, extent) = (shape[(axis + 1)...].reduce(1, *), shape[axis])
      let groups = (extent + size - 1) / size
      return (0..<count / max(inner, 1)).map { row in
        let (outer, along) = row.quotientAndRemainder(dividingBy: extent)
        return ScaleRun(
          range: row * inner..<(row + 1) * inner, scale: outer * groups + along / size)
      }
    }
  }

  // MARK: Scales

  /// Significant bits of the scales of a free grid: scales of a file then have few different bytes.
  private static let lostBits = UInt32(20)

  /// Whether all scales of several have few significant bits, as the converter chose them.
  private static func areShort(_ scales: Tensor) -> Bool {
    guard scales.elementCount > 1 else { return false }
    return scales.elements(as: Float.self).allSatisfy {
      $0.bitPattern & (1 << lostBits - 1) == 0
    }
  }

  /// Statistics of the weights of each scale; none if the scales are learned.
  private func statistics(_ rounded: Rounded) -> [StepStatistics] {
    guard quantizer.statistic != nil else { return [] }
    var ranges = [[Range<Int>]](repeating: [], count: slots[rounded.scales].count)
    for run in rounded.runs { ranges[run.scale].append(run.range) }
    let found = Locked([StepStatistics](repeating: .init(), count: ranges.count))
    threads.run(chunks: ranges.count) { (scale, _) in
      let statistics = StepStatistics(ranges[scale], of: slots[rounded.weights].values)
      found.withLock { $0[scale] = statistics }
    }
    return found.withLock { $0 }
  }

  /// What a number of the slot of the scales is multiplied by. A channel of equal weights has a
  /// statistic of 0, and counts as one of a fraction of its first scale.
  private func unit(_ rounded: Rounded, _ scale: Int) -> Float {
    guard let statistic = quantizer.statistic else { return 1 }
    return Float(max(statistic.unit(rounded.statistics[scale]), rounded.leastUnits[scale]))
  }

  /// Computes the scales and rounds them as the file stores them; in the gradient, this counts as the
  /// identity.
  private func storeScales(_ place: Int, factor: Float = 1) {
    rounded[place].statistics = statistics(rounded[place])
    let rounded = rounded[place]
    let scales = slots[rounded.scales]
    let half = UInt32(1) << (Parameters.lostBits - 1)
    let grids = (0..<scales.count).map { index in
      var scale = scales.values[index] * unit(rounded, index) * factor
      if rounded.hasShortScales {
        scale = Float(bitPattern: (scale.bitPattern &+ half) & ~(2 * half - 1))
      }
      rounded.storedScales[index] = scale
      let most = rounded.largestCode
      return quantizer.statistic?.grid(
        scale: scale, mean: rounded.statistics[index].mean,
        width: rounded.hasWidth ? most : nil, most: most)
        ?? RoundingGrid(scale: scale, lowest: -most, highest: most)
    }
    self.rounded[place].grids = grids
  }

  /// The size of the numbers of a slot: the median scale of its codes, or the median
  /// magnitude. A few may be a hundred times larger than the others: the scale of a channel of zeros, or
  /// the bias behind a normalization.
  package func unit(of slot: Slot) -> Float {
    if let rounded = rounded.first(where: { slots[$0.weights].values == slot.values }) {
      return Parameters.median(rounded.storedScales, slots[rounded.scales].count)
    }
    if let activation = activations.first(where: {
      $0.offset.map { slots[$0].values == slot.values } ?? false
    }) {
      return slots[activation.scale].values[0]
    }
    return Parameters.median(slot.values, slot.count)
  }

  private static func median(_ values: Floats, _ count: Int) -> Float {
    let magnitudes = (0..<count).map { abs(values[$0]) }.sorted()
    return magnitudes.isEmpty ? 0 : magnitudes[magnitudes.count / 2]
  }

  /// The most by which training may divide a scale.
  private static let finest: Float = 8

  /// Keeps scales from becoming 0 or negative.
  package func boundScales() {
    for rounded in rounded {
      let scales = slots[rounded.scales]
      for index in 0..<scales.count {
        scales.values[index] = max(scales.values[index], rounded.leastScales[index])
      }
    }
    for activation in activations {
      let scale = slots[activation.scale].values
      scale[0] = max(scale[0], activation.initial.scale / Parameters.finest)
    }
  }

  // MARK: Rounding

  /// Weights whose code was another one before the last rounding.
  package private(set) var flipCount = 0

  /// Rounds all weights, after they or their scales have changed.
  package func round() {
    let flips = Locked(0)
    for place in rounded.indices {
      let before = rounded[place].readScales
      storeScales(place)
      rounded[place].readScales = rounded[place].grids.map(\.scale)
      let rounded = rounded[place]
      let weights = slots[rounded.weights].values
      let target = elements[rounded.parameter]
      forEachRun(rounded.runs) { run in
        let grid = rounded.grids[run.scale]
        let inverse = 1 / grid.scale
        let inverseBefore = before.isEmpty ? inverse : 1 / before[run.scale]
        var own = 0
        for index in run.range {
          let codeBefore = (target[index] * inverseBefore).roundedWithin22Bits
          let code = grid.code(weights[index], inverse: inverse)
          target[index] = grid.scale * code
          if code != codeBefore { own += 1 }
        }
        flips.withLock { $0 += own }
      }
    }
    flipCount = flips.withLock { $0 }
  }

  private func forEachRun(_ runs: [ScaleRun], _ body: (ScaleRun) -> Void) {
    threads.run(chunks: runs.count) { (chunk, _) in body(runs[chunk]) }
  }

  /// The codes of a parameter as they are now.
  /// - Returns: nil for a parameter in float32.
  package func codes(of parameter: Int) throws(QMError) -> QuantizedTensor? {
    guard let rounded = rounded.first(where: { $0.parameter == parameter }),
      let initial = network.parameters[parameter].codes
    else { return nil }
    let (weights, scales) = (slots[rounded.weights].values, rounded.storedScales)
    var range: ClosedRange<Int32> = 0...0
    let codes = try Tensor(initial.codes.shape, as: Int8.self) { codes in
      for run in rounded.runs {
        let grid = rounded.grids[run.scale]
        let inverse = 1 / grid.scale
        for index in run.range {
          let code = Int8(grid.code(weights[index], inverse: inverse))
          codes[index] = code
          range = min(range.lowerBound, Int32(code))...max(range.upperBound, Int32(code))
        }
      }
    }
    return QuantizedTensor(
      codes: codes,
      scales: try Tensor(
        initial.scales.shape,
        Array(UnsafeBufferPointer(start: scales, count: initial.scales.elementCount))),
      granularity: initial.granularity, codeRange: range)
  }

  /// The numbers of a parameter in float32 as they are now.
  package func numbers(of parameter: Int) throws(QMError) -> Tensor {
    let initial = network.parameters[parameter].initial
    return try Tensor(
      initial.shape,
      Array(UnsafeBufferPointer(start: elements[parameter], count: initial.elementCount)))
  }

  // MARK: Codes

  /// The histograms of the codes of all parameters with codes.
  /// - Parameter factor: of all scales.
  package func histograms(scaledBy factor: Float = 1) -> [CodeHistogram] {
    rounded.indices.map { place in
      storeScales(place, factor: factor)
      let rounded = rounded[place]
      let weights = slots[rounded.weights].values
      var histogram = CodeHistogram()
      for run in rounded.runs {
        let grid = rounded.grids[run.scale]
        let inverse = 1 / grid.scale
        for index in run.range {
          histogram.counts[127 + Int(grid.code(weights[index], inverse: inverse))] += 1
        }
      }
      return histogram
    }
  }

  /// Share of all codes that are 0, 0 to 1.
  package var zeroShare: Double {
    let histograms = histograms()
    let count = histograms.reduce(0) { $0 + $1.counts.reduce(0, +) }
    return Double(histograms.reduce(0) { $0 + $1.counts[127] }) / Double(max(count, 1))
  }

  /// See ``RatePressure``.
  func moveTowardsCheaperCodes(_ histograms: [CodeHistogram], by strength: Float) {
    for (rounded, histogram) in zip(rounded, histograms) {
      let bits = histogram.bitsOfCodes
      let slopes = bits.indices.map { index in
        (bits[min(index + 1, bits.count - 1)] - bits[max(index - 1, 0)]) / 2
      }
      let weights = slots[rounded.weights].values
      forEachRun(rounded.runs) { run in
        let grid = rounded.grids[run.scale]
        let inverse = 1 / grid.scale
        let step = strength * grid.scale
        for index in run.range {
          let code = Int(grid.code(weights[index], inverse: inverse))
          weights[index] -= step * slopes[127 + code]
        }
      }
    }
  }

  /// The scale of each weight of a slot, as runs of weights with one scale; none for other slots.
  package func scales(ofSlot slot: Int) -> [(weights: Range<Int>, scale: Float)] {
    guard let rounded = rounded.first(where: { $0.weights == slot }) else { return [] }
    return rounded.runs.map { ($0.range, rounded.storedScales[$0.scale]) }
  }

  /// Multiplies all scales.
  package func multiplyScales(by factor: Float) {
    multiplyFactors(by: factor)
    round()
  }

  /// Whether scales follow a statistic.
  package var followsStatistics: Bool { quantizer.statistic != nil }

  /// Multiplies what the slots of the scales hold, before the next rounding.
  func multiplyFactors(by factor: Float) {
    for rounded in rounded {
      let scales = slots[rounded.scales]
      for index in 0..<scales.count { scales.values[index] *= factor }
    }
  }

  // MARK: Gradients

  /// Sets all gradients to 0.
  package func clearGradients() {
    for slot in slots { slot.gradients.update(repeating: 0, count: slot.count) }
    for index in activations.indices { activations[index].sums = RoundingSums() }
    saturation = (0, 0)
  }

  /// Turns the gradients of rounded weights into those of weights and scales. Both are linear in the
  /// gradients, so that micro-batches are added before.
  package func finishGradients() {
    for rounded in rounded {
      let (weights, scales) = (slots[rounded.weights], slots[rounded.scales])
      let target = elements[rounded.parameter]
      let found = Locked([RoundingSums](repeating: .init(), count: rounded.runs.count))
      threads.run(chunks: rounded.runs.count) { (chunk, _) in
        let run = rounded.runs[chunk]
        let sums = RoundingSums(
          run.range, of: rounded.grids[run.scale], weights.values, rounded: target,
          gradients: weights.gradients
        ) { weights.gradients.setLanes($1, $0, end: run.range.upperBound) }
        found.withLock { $0[chunk] = sums }
      }
      var sums = [RoundingSums](repeating: .init(), count: scales.count)
      for (run, part) in zip(rounded.runs, found.withLock { $0 }) { sums[run.scale] += part }
      let gradients = zip(sums, rounded.grids).map { quantizer.scaleGradient($0, $1) }
      guard let statistic = quantizer.statistic else {
        for (index, gradient) in gradients.enumerated() {
          scales.gradients[index] += Float(gradient)
        }
        continue
      }
      let factors = gradients.enumerated().map { index, gradient in
        statistic.unit(rounded.statistics[index]) > rounded.leastUnits[index]
          ? gradient * Double(scales.values[index]) : 0
      }
      forEachRun(rounded.runs) { run in
        let (factor, statistics) = (factors[run.scale], rounded.statistics[run.scale])
        guard factor != 0 else { return }
        for index in run.range {
          weights.gradients[index] += Float(
            factor * statistic.unitGradient(Double(weights.values[index]), statistics))
        }
      }
    }
    finishActivationGradients()
  }

  // MARK: States

  /// Numbers beyond this are the end of a divergence; products of two are still numbers.
  private static let most: Float = 0x1p60

  /// Whether no number has left the range in which networks compute. Only then may weights be rounded.
  package var areSane: Bool {
    slots.allSatisfy { slot in
      (0..<slot.count).allSatisfy { abs(slot.values[$0]) <= Parameters.most }
    }
  }

  /// All numbers, slot after slot.
  package func snapshot() -> [Float] {
    slots.flatMap { UnsafeBufferPointer(start: $0.values, count: $0.count) }
  }

  /// Restores the numbers of a snapshot.
  /// - Throws: `malformed` if it has another number of numbers, or one that is no number.
  package func restore(_ numbers: [Float]) throws(QMError) {
    guard numbers.count == slots.reduce(0, { $0 + $1.count }),
      numbers.allSatisfy({ abs($0) <= Parameters.most })
    else { throw .malformed("\(numbers.count) numbers do not fit the network's parameters") }
    var first = 0
    for slot in slots {
      for index in 0..<slot.count { slot.values[index] = numbers[first + index] }
      first += slot.count
    }
    boundScales()
    round()
  }
}

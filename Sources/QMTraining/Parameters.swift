import QMOperations
import QMTensor

/// The numbers that training changes, their gradients, and the rounded weights that the network reads.
///
/// A parameter with codes has two sets of numbers: the weights w, and the scales s of their codes. The
/// network reads
///
///     ŵ = s · clamp(roundToNearestEven(w · (1 / s)), −Q, Q)
///
/// which is the rounding of the converter. Its gradients are those of the straight-through estimator
/// with learned steps, with g = ∂loss/∂ŵ:
///
///     ∂w = g within the range of the codes, 0 beyond it
///     ∂s = Σ g · (ŵ − w) / s within the range, Σ g · ŵ / s beyond it
///
/// Source: Esser et al. 2020, "Learned Step Size Quantization", equations 1 to 3.
package final class Parameters {
  /// Numbers that an optimizer changes together.
  package struct Slot {
    package enum Kind: Hashable {
      /// Weights of a product or table.
      case weights
      /// Biases, and scales and shifts of normalizations.
      case shifts
      /// Scales of codes.
      case scales
    }

    package let name: String
    package let kind: Kind
    package let values: Floats
    package let gradients: Floats
    package let count: Int
    /// Numbers of one output unit; ``count`` if the slot is no matrix of weights.
    package let unitLength: Int
    /// For scales, the number of weights of one scale; otherwise 0.
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

  package private(set) var slots: [Slot] = []
  /// What the network reads for each parameter.
  package private(set) var elements: [Floats] = []
  /// Where the backward run adds the gradient of each parameter.
  package private(set) var gradients: [Floats] = []
  private var rounded: [Rounded] = []
  private var buffers: [Buffer] = []

  /// A parameter with codes.
  private struct Rounded {
    let parameter: Int
    let weights: Int
    let scales: Int
    let runs: [ScaleRun]
    let largestCode: Float
    /// Whether the scales are stored with few significant bits.
    let hasShortScales: Bool
    /// The scales as the file stores them.
    let storedScales: Floats
    let leastScales: [Float]
  }

  /// Consecutive weights with one scale.
  private struct ScaleRun {
    let range: Range<Int>
    let scale: Int
  }

  private let network: TrainingNetwork
  private let threads: ThreadPool

  /// Training starts with the codes of the converter. Their weights start where they were before
  /// rounding, or at the nearest place that has the same code: from the middle of their codes, all
  /// weights with similar gradients would change their codes at the same step.
  /// - Parameters:
  ///   - weights: the weights before rounding, by the name of the parameter; nil for the middle.
  ///   - largestCode: Q of each parameter with codes.
  /// - Throws: `outOfMemory`.
  package init(
    of network: TrainingNetwork, threads: ThreadPool,
    weights: (TrainingNetwork.Parameter) -> Tensor? = { _ in nil },
    largestCode: (TrainingNetwork.Parameter) -> Int32
  ) throws(QMError) {
    self.network = network
    self.threads = threads
    for (index, parameter) in network.parameters.enumerated() {
      let shape = parameter.initial.shape
      let count = parameter.initial.elementCount
      let isMatrix = shape.count > 1
      let values = try floats(copying: parameter.initial)
      let gradient = try floats(count)
      slots.append(
        Slot(
          name: parameter.name, kind: isMatrix ? .weights : .shifts, values: values,
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
          hasShortScales: Parameters.areShort(codes.scales),
          storedScales: try floats(copying: codes.scales),
          leastScales: codes.scales.elements(as: Float.self).map { $0 / Parameters.finest }))
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
    }
    round()
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

  private func floats(_ count: Int) throws(QMError) -> Floats {
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

  /// Rounds the scales as the file stores them; in the gradient, this counts as the identity.
  private func storeScales(_ rounded: Rounded, factor: Float = 1) {
    let scales = slots[rounded.scales]
    for index in 0..<scales.count {
      let scale = scales.values[index] * factor
      let half = UInt32(1) << (Parameters.lostBits - 1)
      rounded.storedScales[index] =
        rounded.hasShortScales
        ? Float(bitPattern: (scale.bitPattern &+ half) & ~(2 * half - 1)) : scale
    }
  }

  /// The size of the numbers of a slot: the median scale of its codes, or the median
  /// magnitude. A few may be a hundred times larger than the others: the scale of a channel of zeros, or
  /// the bias behind a normalization.
  package func unit(of slot: Slot) -> Float {
    if let rounded = rounded.first(where: {
      slots[$0.weights].values == slot.values || slots[$0.scales].values == slot.values
    }) {
      return Parameters.median(slots[rounded.scales].values, slots[rounded.scales].count)
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
  }

  // MARK: Rounding

  /// Rounds all weights, after they or their scales have changed.
  package func round() {
    for rounded in rounded {
      storeScales(rounded)
      let (weights, scales) = (slots[rounded.weights].values, rounded.storedScales)
      let target = elements[rounded.parameter]
      let largest = rounded.largestCode
      forEachRun(rounded.runs) { run in
        let (scale, inverse) = (scales[run.scale], 1 / scales[run.scale])
        for index in run.range {
          target[index] =
            scale * min(max(weights[index] * inverse, -largest), largest).roundedWithin22Bits
        }
      }
    }
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
    let largest = rounded.largestCode
    var range: ClosedRange<Int32> = 0...0
    let codes = try Tensor(initial.codes.shape, as: Int8.self) { codes in
      for run in rounded.runs {
        let inverse = 1 / scales[run.scale]
        for index in run.range {
          let code = Int8(min(max(weights[index] * inverse, -largest), largest).roundedWithin22Bits)
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

  private func code(_ weight: Float, inverse: Float, largest: Float) -> Int {
    Int(min(max(weight * inverse, -largest), largest).roundedWithin22Bits)
  }

  /// The histograms of the codes of all parameters with codes.
  /// - Parameter factor: of all scales.
  package func histograms(scaledBy factor: Float = 1) -> [CodeHistogram] {
    rounded.map { rounded in
      storeScales(rounded, factor: factor)
      let (weights, scales) = (slots[rounded.weights].values, rounded.storedScales)
      var histogram = CodeHistogram()
      for run in rounded.runs {
        let inverse = 1 / scales[run.scale]
        for index in run.range {
          histogram.counts[
            127 + code(weights[index], inverse: inverse, largest: rounded.largestCode)] += 1
        }
      }
      return histogram
    }
  }

  /// See ``RatePressure``.
  func moveTowardsCheaperCodes(_ histograms: [CodeHistogram], by strength: Float) {
    for (rounded, histogram) in zip(rounded, histograms) {
      let bits = histogram.bitsOfCodes
      let slopes = bits.indices.map { index in
        (bits[min(index + 1, bits.count - 1)] - bits[max(index - 1, 0)]) / 2
      }
      let (weights, scales) = (slots[rounded.weights].values, rounded.storedScales)
      forEachRun(rounded.runs) { run in
        let (scale, inverse) = (scales[run.scale], 1 / scales[run.scale])
        let step = strength * scale
        for index in run.range {
          let code = code(weights[index], inverse: inverse, largest: rounded.largestCode)
          weights[index] -= step * slopes[127 + code]
        }
      }
    }
  }

  /// Multiplies all scales.
  package func multiplyScales(by factor: Float) {
    for rounded in rounded {
      let scales = slots[rounded.scales]
      for index in 0..<scales.count { scales.values[index] *= factor }
    }
    round()
  }

  // MARK: Gradients

  /// Sets all gradients to 0.
  package func clearGradients() {
    for slot in slots { slot.gradients.update(repeating: 0, count: slot.count) }
  }

  /// Turns the gradients of rounded weights into those of weights and scales. Both are linear in the
  /// gradients, so that micro-batches are added before.
  package func finishGradients() {
    for rounded in rounded {
      let (weights, scales) = (slots[rounded.weights], slots[rounded.scales])
      let target = elements[rounded.parameter]
      let largest = rounded.largestCode
      let sums = Locked([Double](repeating: 0, count: rounded.runs.count))
      threads.run(chunks: rounded.runs.count) { (chunk, _) in
        let run = rounded.runs[chunk]
        let scale = rounded.storedScales[run.scale]
        let limit = (largest + 0.5) * scale
        var sum = 0.0
        var part: Float = 0
        for (place, index) in run.range.enumerated() {
          let (weight, gradient) = (weights.values[index], weights.gradients[index])
          let isInside = abs(weight) <= limit
          part += gradient * (isInside ? target[index] - weight : target[index])
          if !isInside { weights.gradients[index] = 0 }
          if place & 255 == 255 {
            sum += Double(part)
            part = 0
          }
        }
        let total = (sum + Double(part)) / Double(scale)
        sums.withLock { $0[chunk] = total }
      }
      let all = sums.withLock { $0 }
      for (run, sum) in zip(rounded.runs, all) { scales.gradients[run.scale] += Float(sum) }
    }
  }

  // MARK: States

  /// All numbers, slot after slot.
  package func snapshot() -> [Float] {
    slots.flatMap { UnsafeBufferPointer(start: $0.values, count: $0.count) }
  }

  /// Restores the numbers of a snapshot.
  /// - Throws: `malformed` if it has another number of numbers.
  package func restore(_ numbers: [Float]) throws(QMError) {
    guard numbers.count == slots.reduce(0, { $0 + $1.count }) else {
      throw .malformed("\(numbers.count) numbers do not fit the network's parameters")
    }
    var first = 0
    for slot in slots {
      for index in 0..<slot.count { slot.values[index] = numbers[first + index] }
      first += slot.count
    }
    round()
  }
}

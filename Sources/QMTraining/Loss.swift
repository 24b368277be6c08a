import QMFormat
import QMOperations
import QMReport
import QMTensor

/// The loss of one output, and its gradient with respect to the output's elements. The loss of a batch
/// is the mean over its items; that of several outputs is their sum.
package struct OutputLoss: Sendable {
  package enum Form: Hashable, Sendable {
    /// Σ (y − t)² / Σ t² of each item.
    case relative
    /// Σ t · ln(t / p) over the classes, the mean over the rows of an item: the Kullback–Leibler
    /// divergence of class probabilities p along an axis, counted from the end.
    case classes(axis: Int)
    /// The same for independent probabilities and their complements, the mean over the elements.
    case probabilities
    /// The same as ``classes`` for scores in front of a softmax along an axis, counted from the end;
    /// the softmax of log probabilities are the probabilities.
    ///
    /// Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2, with a
    /// temperature of 1.
    case scores(axis: Int)
    /// Σ (y − t)² / count of each item.
    case squared
  }

  package let form: Form
  /// Whether targets of ``Form/scores(axis:)`` are probabilities, not scores.
  package let targetsAreProbabilities: Bool

  package init(_ form: Form, targetsAreProbabilities: Bool = false) {
    self.form = form
    self.targetsAreProbabilities = targetsAreProbabilities
  }

  /// Probabilities count as at least this much.
  private static let least: Float = 1e-12

  /// Adds to the gradient.
  /// - Parameters:
  ///   - output: the elements of the output.
  ///   - target: what the teacher or the labels say, as many elements.
  ///   - shape: of both.
  ///   - items: items of the batch, which divide the elements.
  ///   - weight: factor of each item.
  ///   - gradient: receives weight · ∂loss/∂output.
  /// - Returns: weight · Σ over the items.
  package func add(
    _ output: UnsafePointer<Float>, _ target: UnsafePointer<Float>, shape: [Int], items: Int,
    weight: Float, to gradient: Floats
  ) -> Double {
    let count = shape.reduce(1, *)
    guard count > 0, items > 0 else { return 0 }
    let length = count / items
    switch form {
    case .relative:
      return (0..<items).reduce(0) { sum, item in
        let first = item * length
        return sum
          + relative(output + first, target + first, length, weight, to: gradient + first)
      }
    case .probabilities:
      let part = weight / Float(length)
      var sum = 0.0
      for index in 0..<count {
        let p = min(max(output[index], OutputLoss.least), 1 - 0x1p-24)
        let t = min(max(target[index], 0), 1)
        sum += Double(divergence(t, p) + divergence(1 - t, 1 - p))
        gradient[index] += part * ((p - t) / (p * (1 - p)))
      }
      return sum * Double(part)
    case .classes(let axis):
      let place = max(shape.count + axis, 0)
      let (extent, inner) = (shape[place], shape[(place + 1)...].reduce(1, *))
      let part = weight * Float(extent) / Float(length)
      var sum = 0.0
      forEachRow(count, extent, inner) { first in
        for index in stride(from: first, to: first + extent * inner, by: inner) {
          let p = max(output[index], OutputLoss.least)
          sum += Double(divergence(target[index], p))
          gradient[index] -= part * (target[index] / p)
        }
      }
      return sum * Double(part)
    case .scores(let axis):
      let place = max(shape.count + axis, 0)
      let (extent, inner) = (shape[place], shape[(place + 1)...].reduce(1, *))
      let part = weight * Float(extent) / Float(length)
      var sum = 0.0
      var (own, teachers) = (
        [Float](repeating: 0, count: extent), [Float](repeating: 0, count: extent)
      )
      forEachRow(count, extent, inner) { first in
        OutputLoss.softmax(output + first, inner, &own)
        if targetsAreProbabilities {
          for index in 0..<extent { teachers[index] = target[first + index * inner] }
        } else {
          OutputLoss.softmax(target + first, inner, &teachers)
        }
        for (index, (p, t)) in zip(own, teachers).enumerated() {
          sum += Double(divergence(t, max(p, OutputLoss.least)))
          gradient[first + index * inner] += part * (p - t)
        }
      }
      return sum * Double(part)
    case .squared:
      let part = weight / Float(length)
      var sum = 0.0
      for index in 0..<count {
        let difference = output[index] - target[index]
        sum += Double(difference) * Double(difference)
        gradient[index] += part * 2 * difference
      }
      return sum * Double(part)
    }
  }

  private func relative(
    _ output: UnsafePointer<Float>, _ target: UnsafePointer<Float>, _ count: Int, _ weight: Float,
    to gradient: Floats
  ) -> Double {
    var (signal, error) = (0.0, 0.0)
    for index in 0..<count {
      let difference = Double(output[index] - target[index])
      signal += Double(target[index]) * Double(target[index])
      error += difference * difference
    }
    // A silent item does not count more than one of a millionth per element.
    signal = max(signal, 1e-12 * Double(count))
    let factor = weight * Float(2 / signal)
    for index in 0..<count { gradient[index] += factor * (output[index] - target[index]) }
    return Double(weight) * error / signal
  }

  private func divergence(_ t: Float, _ p: Float) -> Float {
    t > OutputLoss.least ? t * UnaryFunction.logarithm(t / p) : 0
  }

  /// The softmax of numbers that are `inner` apart.
  private static func softmax(
    _ x: UnsafePointer<Float>, _ inner: Int, _ target: inout [Float]
  ) {
    var largest = x[0]
    for index in target.indices { largest = max(largest, x[index * inner]) }
    var sum: Float = 0
    for index in target.indices {
      target[index] = UnaryFunction.exponential(x[index * inner] - largest)
      sum += target[index]
    }
    for index in target.indices { target[index] /= sum }
  }

  private func forEachRow(_ count: Int, _ extent: Int, _ inner: Int, _ body: (Int) -> Void) {
    guard extent > 0 else { return }
    for start in 0..<count / extent { body(start / inner * inner * extent + start % inner) }
  }
}

extension OutputLoss {
  /// The losses for the outputs of a network with the float network as teacher: probabilities by their
  /// divergence, also those whose logarithms are the output, others by their relative error; nil for
  /// outputs that are no float32 numbers.
  package static func distillation(of program: Program, _ parts: JudgedParts) -> [OutputLoss?] {
    program.outputs.map { output in
      guard program.values[output.value].type.elementType == .float32 else { return nil }
      return OutputLoss(probabilities(output, of: program, parts) ?? .relative)
    }
  }

  /// The divergence for an output that holds probabilities or their logarithms; else nil.
  private static func probabilities(
    _ output: Program.Output, of program: Program, _ parts: JudgedParts
  ) -> Form? {
    for part in parts.parts[output.name] ?? [] where part.value.isEmpty && !part.isNextStep {
      switch part.form {
      case .classLogOdds: return .classes(axis: part.axis)
      case .logOdds where part.ranges.isEmpty: return .probabilities
      default: break
      }
    }
    guard let node = program.nodes.first(where: { $0.outputs.contains(output.value) }),
      case .softmax(let softmax) = node.operation, softmax.kind == .logSoftmax
    else { return nil }
    return .scores(axis: softmax.axis - program.values[output.value].type.shape.rank)
  }

  /// The loss of an output whose targets are labels, and the targets.
  /// - Parameters:
  ///   - form: how the output is trained without labels.
  ///   - shape: of the output.
  ///   - labels: class indices in the shape of the output without the axis of the classes (or with
  ///     extent 1 there); or numbers in the shape of the output.
  /// - Throws: `invalidInput` if the labels do not fit.
  package static func labelled(
    _ form: Form, shape: [Int], _ labels: Tensor
  ) throws(QMError) -> (loss: OutputLoss, target: Tensor) {
    let hasNumbers = labels.elementType == .float32 || labels.elementType == .float64
    if hasNumbers || form == .probabilities, labels.elementCount == shape.reduce(1, *) {
      let target = try labels.converted(to: .float32)
      return (OutputLoss(form == .probabilities ? form : .squared), target)
    }
    guard !hasNumbers, let axis = classAxis(of: form, shape, labels.shape) else {
      throw .invalidInput(
        "labels \(labels) do not fit an output \(shape): expected class indices of its shape without "
          + "one axis, or float32 numbers of its shape")
    }
    let (extent, inner) = (shape[axis], shape[(axis + 1)...].reduce(1, *))
    let indices = try labels.converted(to: .int64).elements(as: Int64.self)
    let target = try Tensor(zeros: .float32, shape)
    let elements = target.buffer.base.assumingMemoryBound(to: Float.self)
    for (place, index) in indices.enumerated() {
      guard index >= 0, index < extent else {
        throw .invalidInput("label \(index); the output has \(extent) classes")
      }
      let (outer, rest) = place.quotientAndRemainder(dividingBy: inner)
      elements[(outer * extent + Int(index)) * inner + rest] = 1
    }
    let relative = axis - shape.count
    if case .classes = form { return (OutputLoss(.classes(axis: relative)), target) }
    return (OutputLoss(.scores(axis: relative), targetsAreProbabilities: true), target)
  }

  /// The axis of an output without which it has the shape of the labels; axes of extent 1 do not count.
  private static func classAxis(of form: Form, _ shape: [Int], _ labels: [Int]) -> Int? {
    func core(_ shape: [Int]) -> [Int] { shape.filter { $0 != 1 } }
    func fits(_ axis: Int) -> Bool {
      var rest = shape
      rest.remove(at: axis)
      return core(rest) == core(labels)
    }
    switch form {
    case .classes(let axis), .scores(let axis):
      let place = shape.count + axis
      return shape.indices.contains(place) && fits(place) ? place : nil
    default:
      return shape.indices.reversed().first { $0 > 0 && fits($0) } ?? (shape.count == 1 ? 0 : nil)
    }
  }
}

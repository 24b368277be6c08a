import QMReport
import QMRuntime

/// What users judge a network by, beside the loss: how often it decides as the labels or the float
/// network say, or for numbers, how far it is from them.
package struct TaskMetric {
  /// What the elements of an output are.
  package enum Form: Hashable, Sendable {
    /// Scores or probabilities of classes along an axis, counted from the end: the class with the
    /// highest one is compared.
    case classes(axis: Int)
    /// Independent probabilities: whether they are above 1/2 is compared.
    case decisions
    /// Numbers: the signal-to-noise ratio 10 · log₁₀(Σ t² / Σ (y − t)²) over all samples, in dB.
    case numbers

    /// The form of an output with this loss.
    init(_ loss: OutputLoss.Form) {
      switch loss {
      case .classes(let axis), .scores(let axis): self = .classes(axis: axis)
      case .probabilities: self = .decisions
      case .relative, .squared: self = .numbers
      }
    }
  }

  package let form: Form
  private var (count, agreeing) = (0, 0)
  private var (signal, noise) = (0.0, 0.0)

  package init(_ form: Form) { self.form = form }

  /// Adds elements of an output and what they should be.
  package mutating func add(
    _ output: UnsafePointer<Float>, _ target: UnsafePointer<Float>, shape: [Int]
  ) {
    let elements = shape.reduce(1, *)
    switch form {
    case .classes(let axis):
      let place = max(shape.count + axis, 0)
      guard place < shape.count, shape[place] > 0 else { return }
      let (extent, inner) = (shape[place], shape[(place + 1)...].reduce(1, *))
      func best(_ row: UnsafePointer<Float>) -> Int {
        (1..<extent).reduce(0) { row[$1 * inner] > row[$0 * inner] ? $1 : $0 }
      }
      for row in 0..<elements / extent {
        let first = row / inner * inner * extent + row % inner
        count += 1
        if best(output + first) == best(target + first) { agreeing += 1 }
      }
    case .decisions:
      count += elements
      for index in 0..<elements where (output[index] > 0.5) == (target[index] > 0.5) {
        agreeing += 1
      }
    case .numbers:
      for index in 0..<elements {
        let difference = Double(output[index]) - Double(target[index])
        signal += Double(target[index]) * Double(target[index])
        noise += difference * difference
      }
    }
  }

  /// The figure of all that was added.
  /// - Parameter hasLabels: whether the targets were labels, not the outputs of the float network.
  package func report(of output: String, hasLabels: Bool) -> MetricReport {
    switch form {
    case .classes, .decisions:
      MetricReport(
        name: hasLabels ? .accuracy : .agreement, output: output,
        value: count > 0 ? Double(agreeing) / Double(count) : 1)
    case .numbers:
      MetricReport(
        name: .signalToNoise, output: output,
        value: noise > 0 ? Comparison.decibels(signal / noise) : .infinity)
    }
  }
}

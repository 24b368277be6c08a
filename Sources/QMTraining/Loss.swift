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
    /// The same as ``classes`` for scores in front of a softmax along the last axis, at a temperature
    /// of 1.
    ///
    /// Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    case scores
  }

  package let form: Form

  package init(_ form: Form) { self.form = form }

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
    case .scores:
      let extent = shape.last ?? 1
      let part = weight * Float(extent) / Float(length)
      var sum = 0.0
      var (own, teachers) = (
        [Float](repeating: 0, count: extent), [Float](repeating: 0, count: extent)
      )
      forEachRow(count, extent, 1) { first in
        let ownSum = OutputLoss.softmax(output + first, &own)
        let teachersSum = OutputLoss.softmax(target + first, &teachers)
        for index in 0..<extent {
          let (p, t) = (own[index] / ownSum, teachers[index] / teachersSum)
          sum += Double(divergence(t, max(p, OutputLoss.least)))
          gradient[first + index] += part * (p - t)
        }
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

  /// e^(x − max x).
  /// - Returns: the sum.
  private static func softmax(_ x: UnsafePointer<Float>, _ target: inout [Float]) -> Float {
    var largest = x[0]
    for index in target.indices { largest = max(largest, x[index]) }
    var sum: Float = 0
    for index in target.indices {
      target[index] = UnaryFunction.exponential(x[index] - largest)
      sum += target[index]
    }
    return sum
  }

  private func forEachRow(_ count: Int, _ extent: Int, _ inner: Int, _ body: (Int) -> Void) {
    guard extent > 0 else { return }
    for start in 0..<count / extent { body(start / inner * inner * extent + start % inner) }
  }
}

extension OutputLoss {
  /// The losses for the outputs of a network, as the network is judged: class probabilities and scores
  /// by their divergence, others by their relative error; nil for outputs that are no float32 numbers.
  package static func all(
    of program: Program, _ parts: JudgedParts
  ) -> [OutputLoss?] {
    program.outputs.map { output in
      guard program.values[output.value].type.elementType == .float32 else { return nil }
      for part in parts.parts[output.name] ?? [] where part.value.isEmpty && !part.isNextStep {
        switch part.form {
        case .classLogOdds: return OutputLoss(.classes(axis: part.axis))
        case .logOdds where part.ranges.isEmpty: return OutputLoss(.probabilities)
        default: break
        }
      }
      return OutputLoss(.relative)
    }
  }
}

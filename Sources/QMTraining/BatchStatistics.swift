import QMOperations
import QMTensor

/// What batch normalizations do while a float network is trained.
public enum BatchNormalizationForm: String, Codable, Sendable, CaseIterable {
  /// They keep the network's means and variances.
  case frozen
  /// They normalize with the means and variances of the micro-batch, and the running ones follow; those
  /// count when the loss on the samples that are held out is measured, and are written.
  case trained
}

/// The mean and the variance of each channel over a micro-batch, with the N values of a channel:
///
///     μ = Σ x / N      σ² = Σ (x − μ)² / N
///
/// and the running ones, which follow as the operator's definition has it:
///
///     running = running · momentum + batch · (1 − momentum)
///
/// Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithms 1 and 2; ONNX, BatchNormalization
/// version 15, with σ² of the population and the default momentum of 0.9.
struct BatchStatistics {
  static let momentum: Float = 0.9

  /// Elements in front of the channels' axis, channels, and elements behind it.
  let (outer, channels, inner): (Int, Int, Int)
  private let memory: Buffer

  init(_ operation: BatchNormalization, _ shape: [Int]) throws(QMError) {
    let axis = operation.order == .channelsFirst ? 1 : shape.count - 1
    outer = shape[..<axis].reduce(1, *)
    channels = shape[axis]
    inner = shape[(axis + 1)...].reduce(1, *)
    memory = try Buffer.allocate(byteCount: max(8 * channels, 1))
  }

  /// One number per channel.
  var mean: Floats { memory.base.assumingMemoryBound(to: Float.self) }
  var variance: Floats { mean + channels }

  /// Values of a channel.
  var count: Int { outer * inner }

  /// Computes the statistics, and lets the running ones follow.
  /// - Throws: `usage` for fewer than 2 values per channel, whose variance says nothing.
  func measure(
    _ x: Floats, runningMean: Floats, runningVariance: Floats, _ threads: ThreadPool
  ) throws(QMError) {
    guard count > 1 else {
      throw .usage(
        "a micro-batch has \(count) value per channel, and its statistics need at least 2; "
          + "take a larger batch, or frozen statistics")
    }
    let (means, variances) = (mean, variance)
    let (momentum, share) = (BatchStatistics.momentum, 1 / Double(count))
    threads.forRows(channels, elements: count) { range in
      for channel in range {
        let mean = sum(x, channel) { $0 } * share
        let variance = sum(x, channel) { ($0 - mean) * ($0 - mean) } * share
        (means[channel], variances[channel]) = (Float(mean), Float(variance))
        runningMean[channel] =
          runningMean[channel] * momentum + means[channel] * (1 - momentum)
        runningVariance[channel] =
          runningVariance[channel] * momentum + variances[channel] * (1 - momentum)
      }
    }
  }

  /// The operands of a normalization with the statistics of the batch instead of the running ones.
  func replacing(_ operands: [UnsafeMutableRawPointer?]) -> [UnsafeMutableRawPointer?] {
    Array(operands[..<3]) + [UnsafeMutableRawPointer(mean), UnsafeMutableRawPointer(variance)]
  }

  @inline(__always)
  private func sum(_ x: Floats, _ channel: Int, _ term: (Double) -> Double) -> Double {
    var sum = 0.0
    for item in 0..<outer {
      let line = x + (item * channels + channel) * inner
      for index in 0..<inner { sum += term(Double(line[index])) }
    }
    return sum
  }
}

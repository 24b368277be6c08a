import QMOperations
import QMTensor

/// Rounds weights to codes one element of the window after the other, from the largest variance to
/// the smallest; the error of each code changes the weights that are rounded after it, so that the
/// outputs of the product change as little as possible:
///
///     code[k] = round((w[k] + Σ_{j before k} (w[j] − scale · code[j]) · F[j, k]) / scale)
///
/// with F of ``InputCovariance``. A weight of 0 gets code 0. The mean squared change of the output is
/// then Σ D[k] · r[k]², r[k] being the difference between the argument of the rounding, times the
/// scale, and the rounded weight.
///
/// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative
/// Pre-trained Transformers", algorithm 1, in the equivalent form of Chee et al. 2023, "QuIP",
/// equation 2 and theorem 6.
package struct GPTQ {
  let covariance: InputCovariance
  let kernels: KernelSet
  let threads: ThreadPool

  package init(_ covariance: InputCovariance, kernels: KernelSet, threads: ThreadPool) {
    self.covariance = covariance
    self.kernels = kernels
    self.threads = threads
  }

  /// Elements of a window that are rounded before the rest is changed by one product.
  private static let blockLength = 128
  /// Output channels that one thread rounds together.
  private static let channelsTogether = 128

  /// Rounds with given scales.
  /// - Parameters:
  ///   - weights: float32 `[O, …]`, finite; as many elements per output channel as a window has.
  ///     The groups of a convolution divide the output channels.
  ///   - grid: the scales, and the range of codes.
  /// - Returns: the codes, and the mean squared change of each output channel.
  /// - Throws: `outOfMemory`.
  package func round(
    _ weights: Tensor, to grid: WeightGrid
  ) throws(QMError) -> (codes: Tensor, errors: [Double]) {
    let length = covariance.length
    let outputs = weights.elementCount / length
    let outputsOfGroup = outputs / covariance.groups.count
    var parts: [Part] = []
    for (group, blocks) in covariance.groups.enumerated() {
      for first in stride(from: 0, to: outputsOfGroup, by: GPTQ.channelsTogether) {
        let channels = first..<min(first + GPTQ.channelsTogether, outputsOfGroup)
        let start = group * outputsOfGroup
        parts.append(
          Part(
            channels: start + channels.lowerBound..<start + channels.upperBound, blocks: blocks))
      }
    }
    var errors = [Double](repeating: 0, count: outputs)
    let failure = Locked<QMError?>(nil)
    let codes = try weights.withElements(as: Float.self) { (weights) throws(QMError) in
      try Tensor(shape(weights.count, outputs), as: Int8.self) { codes in
        errors.withUnsafeMutableBufferPointer { errors in
          threads.run(chunks: parts.count) { (number, _) in
            do throws(QMError) {
              for block in parts[number].blocks {
                try self.round(
                  block, of: weights, parts[number].channels, grid, to: codes, errors)
              }
            } catch { failure.withLock { $0 = error } }
          }
        }
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
    return (try Tensor(.int8, weights.shape, buffer: codes.buffer), errors)
  }

  /// Output channels of one group that are rounded together.
  private struct Part {
    let channels: Range<Int>
    let blocks: [InputCovariance.Block]
  }

  private func shape(_ count: Int, _ outputs: Int) -> [Int] { [outputs, count / outputs] }

  /// Rounds the weights of one block of the window.
  private func round(
    _ block: InputCovariance.Block, of weights: UnsafeBufferPointer<Float>, _ channels: Range<Int>,
    _ grid: WeightGrid, to codes: UnsafeMutableBufferPointer<Int8>,
    _ errors: UnsafeMutableBufferPointer<Double>
  ) throws(QMError) {
    let (side, width) = (block.range.count, channels.count)
    // Past errors times F, added to the weights: row k belongs to element k of the factor's order.
    let feedback = try Tensor(zeros: .float32, [side, width])
    let differences = try Tensor(zeros: .float32, [min(side, GPTQ.blockLength), width])
    defer { withExtendedLifetime((feedback, differences)) {} }
    let added = feedback.mutableFloats
    let change = differences.mutableFloats
    let scales = ScalesOfElement(grid, length: covariance.length, channels)
    try block.factor.withElements(as: Float.self) { (factor) throws(QMError) in
      for end in stride(from: side, to: 0, by: -GPTQ.blockLength) {
        let rows = max(0, end - GPTQ.blockLength)..<end
        for row in rows.reversed() {
          let element = block.range.lowerBound + block.order[row]
          let own = change.baseAddress! + (row - rows.lowerBound) * width
          scales.round(
            weights.baseAddress! + element, added.baseAddress! + row * width, at: element,
            pivot: block.pivots[row], codes: codes.baseAddress! + element, change: own,
            errors: errors.baseAddress!)
          for later in rows.lowerBound..<row {
            let coefficient = factor[row * side + later]
            let target = added.baseAddress! + later * width
            for channel in 0..<width { target[channel] += coefficient * own[channel] }
          }
        }
        guard rows.lowerBound > 0 else { break }
        try feedBack(
          factor, side, rows, try differences.rows(0..<rows.count), to: added)
      }
    }
  }

  /// Adds the errors of a block of elements to all elements that are rounded later.
  private func feedBack(
    _ factor: UnsafeBufferPointer<Float>, _ side: Int, _ rows: Range<Int>, _ change: Tensor,
    to added: UnsafeMutableBufferPointer<Float>
  ) throws(QMError) {
    let later = rows.lowerBound
    let transposed = try Tensor([later, rows.count], as: Float.self) { target in
      for row in rows {
        for column in 0..<later {
          target[column * rows.count + row - rows.lowerBound] = factor[row * side + column]
        }
      }
    }
    let sums = try Operation.matrixMultiply(MatrixMultiply(rightLayout: .depthFirst))
      .evaluate([transposed, change], kernels: kernels)[0]
    sums.withElements(as: Float.self) { sums in
      for index in sums.indices { added[index] += sums[index] }
    }
  }
}

/// The rounding of one element of the window of several output channels.
private struct ScalesOfElement {
  let grid: WeightGrid
  let length: Int
  let channels: Range<Int>

  init(_ grid: WeightGrid, length: Int, _ channels: Range<Int>) {
    self.grid = grid
    self.length = length
    self.channels = channels
  }

  /// - Parameters:
  ///   - weights: the first channel's row, from the element on.
  ///   - added: what is added to the weight of each channel.
  ///   - codes: as `weights`.
  ///   - change: receives weight − scale · code of each channel.
  ///   - errors: the error of each channel is added.
  func round(
    _ weights: UnsafePointer<Float>, _ added: UnsafePointer<Float>, at element: Int, pivot: Float,
    codes: UnsafeMutablePointer<Int8>, change: UnsafeMutablePointer<Float>,
    errors: UnsafeMutablePointer<Double>
  ) {
    let (lowest, highest) = (Float(grid.codes.lowerBound), Float(grid.codes.upperBound))
    for (index, channel) in channels.enumerated() {
      let weight = weights[channel * length]
      let scale = grid.scale(of: channel, element)
      let wanted = weight + added[index]
      let quotient = wanted / scale
      // The comparisons are false for NaN, which becomes the lowest code.
      let bounded = quotient > lowest ? (quotient < highest ? quotient : highest) : lowest
      // Filters that are stored with zeros around them stay small in the file.
      let code = weight == 0 ? 0 : bounded.roundedWithin22Bits
      codes[channel * length] = Int8(code)
      change[index] = weight - scale * code
      let residual = wanted - scale * code
      errors[channel] += Double(pivot) * Double(residual) * Double(residual)
    }
  }
}

extension Tensor {
  /// The float32 elements of a tensor that the caller owns alone, to write; valid while the tensor
  /// lives.
  fileprivate var mutableFloats: UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(
      start: (buffer.base + byteOffset).assumingMemoryBound(to: Float.self), count: elementCount)
  }

  /// Some rows of a matrix, in the same memory.
  fileprivate func rows(_ rows: Range<Int>) throws(QMError) -> Tensor {
    try Tensor(
      .float32, [rows.count, shape[1]], buffer: buffer,
      byteOffset: byteOffset + 4 * rows.lowerBound * shape[1])
  }
}

import QMTensor

/// The input elements that the weights of a product are multiplied by, as a matrix with one column
/// per output position and one row per weight of an output channel.
///
/// For a matrix product, the columns are the rows of the left operand. For a convolution, they are
/// its windows, with 0 for taps in the padding or in a gap between elements of a transposed
/// convolution.
package struct InputWindows: Sendable {
  /// Groups of a convolution, each with its own channels; 1 for a matrix product.
  package let groupCount: Int
  /// Number of weights of one output channel.
  package let length: Int
  private let convolution: (attributes: Convolution, weights: [Int])?

  /// - Parameter weights: shape of the weight operand.
  /// - Returns: nil for an operation without such weights.
  package init?(of operation: Operation, weights: [Int]) {
    let length = weights.dropFirst().reduce(1, *)
    guard length > 0 else { return nil }
    self.length = length
    switch operation {
    case .convolution(let attributes):
      groupCount = attributes.groups
      convolution = (attributes, weights)
    case .matrixMultiply(let multiply) where multiply.rightLayout == .channelsFirst:
      guard weights.count == 2 else { return nil }
      groupCount = 1
      convolution = nil
    default: return nil
    }
  }

  /// Number of output positions, over all samples of a batch.
  /// - Parameter input: shape of the input, which the operation's type rule accepts.
  package func count(input: [Int]) throws(QMError) -> Int {
    guard let (attributes, weights) = convolution else { return input.dropLast().reduce(1, *) }
    let extents = try attributes.extents(input: input, weights: weights)
    return extents.axes.reduce(extents.samples) { $0 * $1.output }
  }

  /// Writes some windows as `[groupCount, length, windows.count]`.
  /// - Parameters:
  ///   - windows: within ``count(input:)``.
  ///   - shape: shape of the input.
  package func copy(
    _ windows: Range<Int>, of input: UnsafeBufferPointer<Float>, _ shape: [Int],
    to target: UnsafeMutableBufferPointer<Float>
  ) throws(QMError) {
    if let (attributes, weights) = convolution {
      let extents = try attributes.extents(input: shape, weights: weights)
      attributes.copyWindows(windows, of: input, extents, to: target)
    } else {
      for (column, row) in windows.enumerated() {
        for index in 0..<length {
          target[index * windows.count + column] = input[row * length + index]
        }
      }
    }
  }
}

extension Convolution {
  fileprivate func copyWindows(
    _ windows: Range<Int>, of input: UnsafeBufferPointer<Float>, _ extents: Extents,
    to target: UnsafeMutableBufferPointer<Float>
  ) {
    // Extents of the input without the gaps.
    let inputExtents = zip(extents.axes, spacing).map { ($0.input - 1) / $1 + 1 }
    let outputExtents = extents.axes.map(\.output)
    let windowExtents = extents.axes.map(\.window)
    let (inputPlane, outputPlane) = (inputExtents.reduce(1, *), outputExtents.reduce(1, *))
    let taps = (0..<windowExtents.reduce(1, *)).map { Self.coordinates(of: $0, in: windowExtents) }
    let channels = extents.inputChannels / groups
    let isFirst = order == .channelsFirst
    for (column, window) in windows.enumerated() {
      let (sample, position) = window.quotientAndRemainder(dividingBy: outputPlane)
      let coordinates = Self.coordinates(of: position, in: outputExtents)
      for (tap, tapCoordinates) in taps.enumerated() {
        var place: Int? = 0
        for axis in extents.axes.indices {
          let along = extents.axes[axis].inputPosition(coordinates[axis], tap: tapCoordinates[axis])
          guard let above = place, (0..<extents.axes[axis].input).contains(along),
            along % spacing[axis] == 0
          else {
            place = nil
            break
          }
          place = above * inputExtents[axis] + along / spacing[axis]
        }
        for channel in 0..<extents.inputChannels {
          let (group, inGroup) = channel.quotientAndRemainder(dividingBy: channels)
          let row = isFirst ? inGroup * taps.count + tap : tap * channels + inGroup
          target[(group * channels * taps.count + row) * windows.count + column] =
            place.map { place in
              input[
                isFirst
                  ? (sample * extents.inputChannels + channel) * inputPlane + place
                  : (sample * inputPlane + place) * extents.inputChannels + channel]
            } ?? 0
        }
      }
    }
  }
}

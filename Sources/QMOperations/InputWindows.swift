import QMTensor

/// The elements that the weights of a product are multiplied by, as a matrix with one row per
/// output position and one column per weight of an output channel.
///
/// For a matrix product, these are the rows of the left operand; likewise for the input of a
/// recurrent layer. For a convolution, they are its windows, with 0 for taps in the padding or in a
/// gap between elements of a transposed convolution. For the recurrence of a recurrent layer, they
/// are the states h before each step: the initial states, and the outputs of all steps but the last.
/// The reset gate of a GRU, which is applied to them in one of its products, is ignored, and the zeros
/// after the end of a shorter sequence are taken along.
package struct InputWindows: Sendable {
  /// Groups of a convolution, each with its own channels; the directions of a recurrence; otherwise 1.
  package let groupCount: Int
  /// Number of weights of one output channel.
  package let length: Int
  /// The values whose elements make up the windows.
  package let sources: [Source]
  private let kind: Kind

  /// A value whose elements make up windows.
  package enum Source: Hashable, Sendable {
    /// The operation's operand at this position.
    case operand(Int)
    /// The output at this position.
    case output(Int)
  }

  private enum Kind {
    case rows
    case windows(Convolution, weights: [Int])
    case states(Recurrent.Direction)
  }

  /// - Parameters:
  ///   - position: of the weights among the operands.
  ///   - weights: shape of the weights.
  /// - Returns: nil for an operation without such weights.
  package init?(of operation: Operation, weightsAt position: Int, _ weights: [Int]) {
    let length = weights.dropFirst().reduce(1, *)
    guard length > 0 else { return nil }
    self.length = length
    switch operation {
    case .convolution(let attributes) where position == ProductOperand.weights:
      groupCount = attributes.groups
      kind = .windows(attributes, weights: weights)
      sources = [.operand(ProductOperand.input)]
    case .matrixMultiply(let multiply)
    where multiply.rightLayout == .channelsFirst && position == ProductOperand.weights:
      guard weights.count == 2 else { return nil }
      groupCount = 1
      kind = .rows
      sources = [.operand(ProductOperand.input)]
    case .recurrent where position == RecurrentOperand.weights:
      groupCount = 1
      kind = .rows
      sources = [.operand(RecurrentOperand.input)]
    case .recurrent(let recurrent) where position == RecurrentOperand.recurrence:
      groupCount = recurrent.direction == .bidirectional ? 2 : 1
      kind = .states(recurrent.direction)
      sources = [.operand(RecurrentOperand.hidden), .output(0)]
    default: return nil
    }
  }

  /// Number of output positions that a source gives, over all samples of a batch; 0 for a source
  /// without elements.
  /// - Parameter shape: shape of the source, which the operation's type rule accepts.
  package func count(of source: Source, _ shape: [Int]) throws(QMError) -> Int {
    if shape.contains(0) { return 0 }
    switch (kind, source) {
    case (.rows, _): return shape.dropLast().reduce(1, *)
    case (.windows(let attributes, let weights), _):
      let extents = try attributes.extents(input: shape, weights: weights)
      return extents.axes.reduce(extents.samples) { $0 * $1.output }
    case (.states, .operand): return shape[1]
    case (.states, .output): return max(shape[0] - 1, 0) * shape[2]
    }
  }

  /// Writes some windows as `[windows.count, groupCount, length]`.
  /// - Parameters:
  ///   - windows: each below ``count(of:_:)``.
  ///   - source: where `input` comes from.
  ///   - shape: shape of the input.
  package func copy(
    _ windows: [Int], of source: Source, _ input: UnsafeBufferPointer<Float>, _ shape: [Int],
    to target: UnsafeMutableBufferPointer<Float>
  ) throws(QMError) {
    guard !windows.isEmpty, let elements = input.baseAddress, let target = target.baseAddress
    else { return }
    func copyRow(_ row: Int, to place: Int) {
      (target + place * length).update(from: elements + row * length, count: length)
    }
    switch (kind, source) {
    case (.rows, _):
      for (place, row) in windows.enumerated() { copyRow(row, to: place) }
    case (.windows(let attributes, let weights), _):
      let extents = try attributes.extents(input: shape, weights: weights)
      WindowCopy(attributes, extents).run(windows, of: elements, to: target)
    case (.states, .operand):
      // [D, B, H]
      for (place, item) in windows.enumerated() {
        for group in 0..<groupCount {
          copyRow(group * shape[1] + item, to: place * groupCount + group)
        }
      }
    case (.states(let direction), .output):
      // [T, D, B, H]; the state before a step of the reverse direction is that of the next one.
      for (place, window) in windows.enumerated() {
        let (step, item) = window.quotientAndRemainder(dividingBy: shape[2])
        for group in 0..<groupCount {
          let isReverse = direction == .reverse || group == 1
          let row = ((isReverse ? step + 1 : step) * groupCount + group) * shape[2] + item
          copyRow(row, to: place * groupCount + group)
        }
      }
    }
  }
}

/// Copies windows of a convolution.
private struct WindowCopy {
  private let groups: Int
  private let isFirst: Bool
  private let inputChannels: Int
  private let inputPlane: Int
  private let outputExtents: [Int]
  private let tapExtents: [Int]
  /// For each axis, output position and tap: offset of the input element within its plane; -1 in the
  /// padding and in gaps.
  private let offsets: [[Int]]

  init(_ convolution: Convolution, _ extents: Convolution.Extents) {
    groups = convolution.groups
    isFirst = convolution.order == .channelsFirst
    inputChannels = extents.inputChannels
    outputExtents = extents.axes.map(\.output)
    tapExtents = extents.axes.map(\.window)
    // Extents of the input without the gaps.
    let inputExtents = zip(extents.axes, convolution.spacing).map { ($0.input + $1 - 1) / $1 }
    inputPlane = inputExtents.reduce(1, *)
    offsets = extents.axes.indices.map { number in
      let (axis, spacing) = (extents.axes[number], convolution.spacing[number])
      let step = inputExtents[(number + 1)...].reduce(1, *)
      return (0..<axis.output).flatMap { position in
        (0..<axis.window).map { tap in
          let place = axis.inputPosition(position, tap: tap)
          return (0..<axis.input).contains(place) && place % spacing == 0
            ? place / spacing * step : -1
        }
      }
    }
  }

  func run(
    _ windows: [Int], of input: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>
  ) {
    let (taps, outputPlane) = (tapExtents.reduce(1, *), outputExtents.reduce(1, *))
    let channels = inputChannels / groups
    let tapCoordinates = (0..<taps).map { Convolution.coordinates(of: $0, in: tapExtents) }
    for (place, window) in windows.enumerated() {
      let (sample, position) = window.quotientAndRemainder(dividingBy: outputPlane)
      let coordinates = Convolution.coordinates(of: position, in: outputExtents)
      let row = target + place * inputChannels * taps
      for tap in 0..<taps {
        var offset = 0
        for axis in offsets.indices where offset >= 0 {
          let along = offsets[axis][
            coordinates[axis] * tapExtents[axis] + tapCoordinates[tap][axis]]
          offset = along < 0 ? -1 : offset + along
        }
        for group in 0..<groups {
          // The elements of this tap in the row, and in the input, are this far apart.
          let (step, inputStep) = isFirst ? (taps, inputPlane) : (1, 1)
          let own = row + group * channels * taps + (isFirst ? tap : tap * channels)
          guard offset >= 0 else {
            for channel in 0..<channels { own[channel * step] = 0 }
            continue
          }
          let first = sample * inputChannels
          let source =
            input
            + (isFirst
              ? (first + group * channels) * inputPlane + offset
              : sample * inputPlane * inputChannels + offset * inputChannels + group * channels)
          for channel in 0..<channels { own[channel * step] = source[channel * inputStep] }
        }
      }
    }
  }
}

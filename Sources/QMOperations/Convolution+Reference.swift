import QMTensor

extension Convolution {
  /// For each output element, over the taps of the window in row-major order and, within a tap,
  /// over the channels of the group: `sum = input · weight + sum`, starting with +0; in float32,
  /// each step is rounded once. Padding is read as the number 0. A tap that reads a gap of a
  /// transposed convolution is no step.
  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    guard let input = inputs[ProductOperand.input], let weights = inputs[ProductOperand.weights]
    else { throw .malformed("\(Self.name) needs two factors") }
    let extents = try extents(input: input.shape, weights: weights.shape)
    let end = ReferenceEpilogue(epilogue, inputs, outputs[0])
    if let groups = end.groupScales {
      forEachOutput(extents) { (sample, channel, index, steps) in
        let zeroPoint = end.inputZeroPoint(row: sample)
        var sum = GroupSum(end, groups, row: sample)
        steps { (inputIndex, weightIndex) in
          let code = inputIndex.map { input.code(at: $0) } ?? zeroPoint
          sum.add((code - zeroPoint) &* weights.code(at: weightIndex), weight: weightIndex)
        }
        end.finish(sum.total, channel: channel, at: index)
      }
    } else if end.isInteger {
      forEachOutput(extents) { (sample, channel, index, steps) in
        let zeroPoint = end.inputZeroPoint(row: sample)
        var sum: Int32 = 0
        steps { (inputIndex, weightIndex) in
          let code = inputIndex.map { input.code(at: $0) } ?? zeroPoint
          sum &+= (code - zeroPoint) &* weights.code(at: weightIndex)
        }
        end.finish(sum, row: sample, channel: channel, at: index)
      }
    } else {
      let numbers = input.elements(as: Float.self)
      let weightNumbers = weights.elements(as: Float.self)
      forEachOutput(extents) { (sample, channel, index, steps) in
        var sum: Float = 0
        steps { (inputIndex, weightIndex) in
          sum.addProduct(inputIndex.map { numbers[$0] } ?? 0, weightNumbers[weightIndex])
        }
        end.finish(sum, channel: channel, at: index)
      }
    }
  }

  /// Calls `body` for every output element, with its sample, channel and index, and its sequence of
  /// steps: the index of an input element (nil in the padding) and of its weight. Taps that read a
  /// gap are left out.
  private func forEachOutput(
    _ extents: Extents,
    _ body: (
      _ sample: Int, _ channel: Int, _ index: Int, _ steps: ((Int?, Int) -> Void) -> Void
    ) -> Void
  ) {
    // Extents of the input without the gaps.
    let inputExtents = zip(extents.axes, spacing).map { ($0.input + $1 - 1) / $1 }
    let outputExtents = extents.axes.map(\.output)
    let windowExtents = extents.axes.map(\.window)
    let inputPlane = inputExtents.reduce(1, *)
    let outputPlane = outputExtents.reduce(1, *)
    let taps = windowExtents.reduce(1, *)
    let groupInputs = extents.inputChannels / groups
    let groupOutputs = extents.outputChannels / groups
    let isFirst = order == .channelsFirst

    /// Index of an element in a tensor of samples, channels and positions, in either order.
    func index(_ sample: Int, _ channel: Int, _ position: Int, channels: Int, plane: Int) -> Int {
      isFirst
        ? (sample * channels + channel) * plane + position
        : (sample * plane + position) * channels + channel
    }

    var tapPositions = [Int?](repeating: nil, count: taps)
    var isGap = [Bool](repeating: false, count: taps)
    for sample in 0..<extents.samples {
      for position in 0..<outputPlane {
        let coordinates = Self.coordinates(of: position, in: outputExtents)
        for tap in 0..<taps {
          let tapCoordinates = Self.coordinates(of: tap, in: windowExtents)
          var flat: Int? = 0
          isGap[tap] = false
          for axis in extents.axes.indices {
            let place = extents.axes[axis].inputPosition(
              coordinates[axis], tap: tapCoordinates[axis])
            if place % spacing[axis] != 0 { isGap[tap] = true }
            guard let above = flat, (0..<extents.axes[axis].input).contains(place) else {
              flat = nil
              continue
            }
            flat = above * inputExtents[axis] + place / spacing[axis]
          }
          tapPositions[tap] = flat
        }
        for channel in 0..<extents.outputChannels {
          let firstInput = channel / groupOutputs * groupInputs
          body(
            sample, channel,
            index(
              sample, channel, position, channels: extents.outputChannels, plane: outputPlane)
          ) { (step) in
            for tap in 0..<taps where !isGap[tap] {
              for inputChannel in 0..<groupInputs {
                let inputIndex = tapPositions[tap].map {
                  index(
                    sample, firstInput + inputChannel, $0, channels: extents.inputChannels,
                    plane: inputPlane)
                }
                step(
                  inputIndex,
                  index(channel, inputChannel, tap, channels: groupInputs, plane: taps))
              }
            }
          }
        }
      }
    }
  }

  /// Row-major coordinates of the element with the given index.
  static func coordinates(of index: Int, in extents: [Int]) -> [Int] {
    var rest = index
    var coordinates = [Int](repeating: 0, count: extents.count)
    for axis in extents.indices.reversed() {
      coordinates[axis] = rest % extents[axis]
      rest /= extents[axis]
    }
    return coordinates
  }
}

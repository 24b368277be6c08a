import QMOperations
import QMTensor

/// For the maximum of a window, the first element that is the largest, in the window's order, gets
/// all of ∂y. For an average of n elements, each gets ∂y / n.
extension Pooling: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let shape = try node.shape(0)
    let axes = try windowAxes(for: shape)
    let windows = WindowMap(axes, spacing: axes.map { _ in 1 })
    let isFirst = order == .channelsFirst
    let channels = isFirst ? shape[1] : shape[shape.count - 1]
    // Planes of neighbouring channels; with channels first, each channel is a plane.
    let gradient = PoolingGradient(
      windows: windows, isMaximum: kind == .maximum,
      shares: kind == .maximum ? [] : shares(axes, windows), pitch: isFirst ? 1 : channels)
    let blocks = isFirst ? 1 : (channels + PoolingGradient.width - 1) / PoolingGradient.width
    let planes = shape[0] * (isFirst ? channels : 1)
    let reads: Set<Int> = kind == .maximum ? [0] : []
    return GradientKernel(reading: reads) { memory in
      let source = memory.outputGradients[0]!
      let target = memory.inputGradients[0]!
      let x = reads.isEmpty ? source : memory.input(0)
      memory.threads.run(chunks: planes * blocks) { (chunk, _) in
        let (plane, first) = (chunk / blocks, chunk % blocks * PoolingGradient.width)
        let (input, output) = (
          plane * windows.inputPositions * gradient.pitch + first,
          plane * windows.positions * gradient.pitch + first
        )
        gradient.add(
          source + output, x + input, to: target + input,
          channels: min(PoolingGradient.width, gradient.pitch - first))
      }
    }
  }

  /// 1 / n for each position.
  private func shares(_ axes: [WindowAxis], _ windows: WindowMap) -> [Float] {
    (0..<windows.positions).map { position in
      var number = 0
      for tap in 0..<windows.taps {
        if kind == .averageOfInside {
          if windows.places[position * windows.taps + tap] >= 0 { number += 1 }
          continue
        }
        var (restOfPosition, restOfTap) = (position, tap)
        var isPadded = true
        for axis in axes.reversed() {
          let along = axis.inputPosition(restOfPosition % axis.output, tap: restOfTap % axis.window)
          isPadded = isPadded && along < axis.input + axis.after
          restOfPosition /= axis.output
          restOfTap /= axis.window
        }
        if isPadded { number += 1 }
      }
      return 1 / Float(max(number, 1))
    }
  }
}

private struct PoolingGradient {
  /// Channels that are taken together.
  static let width = 16

  let windows: WindowMap
  let isMaximum: Bool
  let shares: [Float]
  /// Channels of a position.
  let pitch: Int

  /// Adds the gradient of up to ``width`` neighbouring channels of one sample.
  func add(_ gradient: Floats, _ x: Floats, to target: Floats, channels: Int) {
    windows.places.withUnsafeBufferPointer { places in
      guard let places = places.baseAddress else { return }
      if !isMaximum {
        addShares(places, gradient, to: target, channels: channels)
      } else if channels == 1 {
        addToMaxima(places, gradient, x, to: target)
      } else {
        addToMaxima(places, gradient, x, to: target, channels: channels)
      }
    }
  }

  private func addShares(
    _ places: UnsafePointer<Int32>, _ gradient: Floats, to target: Floats, channels: Int
  ) {
    for position in 0..<windows.positions {
      let (row, share) = (gradient + position * pitch, shares[position])
      for tap in position * windows.taps..<(position + 1) * windows.taps where places[tap] >= 0 {
        let line = target + Int(places[tap]) * pitch
        for channel in 0..<channels { line[channel] += row[channel] * share }
      }
    }
  }

  private func addToMaxima(
    _ places: UnsafePointer<Int32>, _ gradient: Floats, _ x: Floats, to target: Floats
  ) {
    for position in 0..<windows.positions {
      var best = -Float.infinity
      var winner = -1
      for tap in position * windows.taps..<(position + 1) * windows.taps where places[tap] >= 0 {
        let place = Int(places[tap]) * pitch
        let isBetter = x[place] > best
        best = isBetter ? x[place] : best
        winner = isBetter ? place : winner
      }
      if winner >= 0 { target[winner] += gradient[position * pitch] }
    }
  }

  private func addToMaxima(
    _ places: UnsafePointer<Int32>, _ gradient: Floats, _ x: Floats, to target: Floats,
    channels: Int
  ) {
    for position in 0..<windows.positions {
      var best = SIMD16<Float>(repeating: -.infinity)
      var winners = SIMD16<Int32>(repeating: -1)
      for tap in position * windows.taps..<(position + 1) * windows.taps where places[tap] >= 0 {
        let line = x + Int(places[tap]) * pitch
        let numbers =
          channels == PoolingGradient.width
          ? UnsafeRawPointer(line).loadUnaligned(as: SIMD16<Float>.self)
          : PoolingGradient.numbers(line, channels)
        let isBetter = numbers .> best
        best.replace(with: numbers, where: isBetter)
        winners.replace(with: SIMD16(repeating: places[tap]), where: isBetter)
      }
      let row = gradient + position * pitch
      withUnsafePointer(to: &winners) { pointer in
        pointer.withMemoryRebound(to: Int32.self, capacity: PoolingGradient.width) { winners in
          for channel in 0..<channels where winners[channel] >= 0 {
            target[Int(winners[channel]) * pitch + channel] += row[channel]
          }
        }
      }
    }
  }

  /// The numbers of the last channels; −∞ behind them.
  private static func numbers(_ line: Floats, _ channels: Int) -> SIMD16<Float> {
    var result = SIMD16<Float>(repeating: -.infinity)
    for channel in 0..<channels { result[channel] = line[channel] }
    return result
  }
}

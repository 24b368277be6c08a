import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The weights with which the pixels of a line make one of another length.
///
/// The filter is a triangle, as wide as two pixels of the longer line: enlarged, a line is interpolated
/// linearly; reduced, every pixel counts, so that nothing aliases. With the part [a, b) of the line
/// for n pixels, s = (b − a) / n, r = max(s, 1), and pixel i of the result
///
///     c = a + (i + ½) s
///     w(j) = max(0, 1 − |j + ½ − c| / r)      for ⌊c − r + ½⌋ ≤ j < ⌊c + r + ½⌋, inside of the line
///     k(j) = w(j) / Σ w, rounded to 22 bits behind the point, halves away from 0
///     result(i) = ⌊½ + Σ k(j) · pixel(j)⌋, at most 255
///
/// Rows are resampled first, and rounded to 8 bits, then columns. This is what Pillow's `BILINEAR`
/// computes, to the last bit in version 11.3; 13.0 takes columns first for some sizes, which changes a
/// result by 1 at most.
struct ResamplingWeights {
  /// The first pixel of each sum, and its weights.
  let sums: [(first: Int, weights: [Int32])]

  private static let fractionBits: Int32 = 22

  /// - Parameters:
  ///   - count: pixels of the line.
  ///   - part: the part of the line that becomes the result, in pixels.
  ///   - resultCount: pixels of the result.
  init(count: Int, part: Range<Float>, resultCount: Int) {
    let start = Double(part.lowerBound)
    let scale = Double(part.upperBound - part.lowerBound) / Double(resultCount)
    let reach = max(scale, 1)
    sums = (0..<resultCount).map { index in
      let centre = start + (Double(index) + 0.5) * scale
      // Converted toward 0; what is below 0 is outside.
      let first = min(max(0, Int(centre - reach + 0.5)), count)
      let end = min(count, Int(centre + reach + 0.5))
      let weights = (first..<max(first, end)).map { place in
        max(0, 1 - abs((Double(place) - centre + 0.5) * (1 / reach)))
      }
      let sum = weights.reduce(0, +)
      return (
        first,
        weights.map {
          Int32((sum == 0 ? $0 : $0 / sum) * Double(1 << ResamplingWeights.fractionBits) + 0.5)
        }
      )
    }
  }

  /// The weighted sum of pixels that lie `stride` bytes apart, rounded to 8 bits.
  ///
  /// The sum stays in range: the weights are 2²² together, and rounding adds at most ½ for each of at
  /// most 2²¹ pixels.
  @inline(__always)
  static func sum(
    _ weights: UnsafeBufferPointer<Int32>, _ pixels: UnsafePointer<UInt8>, stride: Int
  ) -> UInt8 {
    var sum: Int32 = 1 << (fractionBits - 1)
    for (place, weight) in weights.enumerated() {
      sum &+= weight &* Int32(pixels[place &* stride])
    }
    return UInt8(truncatingIfNeeded: min(max(sum >> fractionBits, 0), 255))
  }
}

extension Picture {
  /// The part of the picture at x and y, in pixels, as a picture of another size
  /// (``ResamplingWeights``).
  /// - Throws: `outOfMemory`; `unsupported` if what lies between them is too large.
  func resampled(
    _ x: Range<Float>, _ y: Range<Float>, width newWidth: Int, height newHeight: Int
  ) throws(QMError) -> Picture {
    let columns = ResamplingWeights(count: width, part: x, resultCount: newWidth)
    let rows = ResamplingWeights(count: height, part: y, resultCount: newHeight)
    // Rows that no row of the result needs are left out.
    let first = rows.sums.map(\.first).min() ?? 0
    let end = rows.sums.map { $0.first + $0.weights.count }.max() ?? 0
    // A narrow picture of many rows is small, and wide as the network takes it may be large.
    let limit = max(MediaLimits.standard.pixelCount, newWidth * newHeight)
    guard newWidth * (end - first) <= limit else {
      throw .unsupported(
        "\(width) × \(height) pixels become \(newWidth) × \(end - first) on the way to "
          + "\(newWidth) × \(newHeight); the limit is \(limit) pixels",
        remedies: .changeModel(how: "cut the picture"))
    }
    let wide = try Picture(width: newWidth, height: end - first, channelCount: channelCount)
    let channels = channelCount
    for (index, sum) in columns.sums.enumerated() {
      sum.weights.withUnsafeBufferPointer { weights in
        for row in first..<end {
          let from = bytes + (row * width + sum.first) * channels
          let to = wide.bytes + ((row - first) * newWidth + index) * channels
          for channel in 0..<channels {
            to[channel] = ResamplingWeights.sum(weights, from + channel, stride: channels)
          }
        }
      }
    }
    let result = try Picture(width: newWidth, height: newHeight, channelCount: channels)
    let length = newWidth * channels
    for (index, sum) in rows.sums.enumerated() {
      sum.weights.withUnsafeBufferPointer { weights in
        let from = wide.bytes + (sum.first - first) * length
        let to = result.bytes + index * length
        for place in 0..<length {
          to[place] = ResamplingWeights.sum(weights, from + place, stride: length)
        }
      }
    }
    return result
  }

  /// The picture in another size.
  /// - Throws: `outOfMemory`.
  func resized(
    width newWidth: Int, height newHeight: Int, _ method: Preprocessing.Resizing
  ) throws(QMError) -> Picture {
    let (all, down) = (0..<Float(width), 0..<Float(height))
    let (own, wanted) = (
      Double(width) / Double(height), Double(newWidth) / Double(newHeight)
    )
    switch method {
    case .stretch:
      return try resampled(all, down, width: newWidth, height: newHeight)
    case .fill:
      let part =
        own >= wanted
        ? (width: own == wanted ? Double(width) : wanted * Double(height), height: Double(height))
        : (width: Double(width), height: Double(width) / wanted)
      let left = (Double(width) - part.width) * 0.5
      let top = (Double(height) - part.height) * 0.5
      return try resampled(
        Float(left)..<Float(left + part.width), Float(top)..<Float(top + part.height),
        width: newWidth, height: newHeight)
    case .fit:
      var (fitWidth, fitHeight) = (newWidth, newHeight)
      if own > wanted {
        fitHeight = Int(
          (Double(height) / Double(width) * Double(newWidth)).rounded(.toNearestOrEven))
      } else if own < wanted {
        fitWidth = Int((own * Double(newHeight)).rounded(.toNearestOrEven))
      }
      (fitWidth, fitHeight) = (min(max(fitWidth, 1), newWidth), min(max(fitHeight, 1), newHeight))
      let inner = try resampled(all, down, width: fitWidth, height: fitHeight)
      return try inner.padded(width: newWidth, height: newHeight)
    }
  }

  /// The picture in the middle of a black one.
  private func padded(width newWidth: Int, height newHeight: Int) throws(QMError) -> Picture {
    guard width != newWidth || height != newHeight else { return self }
    let result = try Picture(width: newWidth, height: newHeight, channelCount: channelCount)
    func margin(_ room: Int) -> Int { Int((Double(room) * 0.5).rounded(.toNearestOrEven)) }
    let (left, top) = (margin(newWidth - width), margin(newHeight - height))
    for row in 0..<height {
      memcpy(
        result.bytes + ((row + top) * newWidth + left) * channelCount,
        bytes + row * width * channelCount, width * channelCount)
    }
    return result
  }
}

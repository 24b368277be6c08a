import QMOperations
import QMTensor

extension NodeReader {
  /// Attributes that windows of convolution and pooling share.
  struct Window {
    var strides: [Int]
    var dilations: [Int]
    var padding: Padding
  }

  /// Extents and steps beyond this are a mistake; below it, sums of them cannot overflow.
  private static let largestExtent = Int(Int32.max)

  func window(spatialRank: Int) throws(QMError) -> Window {
    func numbers(_ name: String, count: Int, default standard: Int, least: Int) throws(QMError)
      -> [Int]
    {
      guard let numbers = try integers(name) else {
        return [Int](repeating: standard, count: count)
      }
      guard numbers.count == count,
        numbers.allSatisfy({ $0 >= least && $0 <= Self.largestExtent })
      else {
        throw .malformed(
          "\(name) \(numbers.prefix(8)); expected \(count) numbers from \(least) on for \(spatialRank) spatial axes"
        )
      }
      return numbers
    }
    let padding: Padding
    switch try text("auto_pad", default: "NOTSET") {
    case "NOTSET":
      let pads = try numbers("pads", count: 2 * spatialRank, default: 0, least: 0)
      padding = .explicit(
        before: Array(pads[..<spatialRank]), after: Array(pads[spatialRank...]))
    case "VALID":
      let none = [Int](repeating: 0, count: spatialRank)
      padding = .explicit(before: none, after: none)
    case "SAME_UPPER": padding = .sameUpper
    case "SAME_LOWER": padding = .sameLower
    case let mode:
      throw .malformed(
        "auto_pad '\(mode.abbreviated)'; ONNX defines NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    }
    return Window(
      strides: try numbers("strides", count: spatialRank, default: 1, least: 1),
      dilations: try numbers("dilations", count: spatialRank, default: 1, least: 1),
      padding: padding)
  }

  /// The extents in `kernel_shape`.
  func kernelShape() throws(QMError) -> [Int]? {
    guard let kernel = try integers("kernel_shape") else { return nil }
    guard kernel.allSatisfy({ $0 >= 1 && $0 <= Self.largestExtent }) else {
      throw .malformed("kernel_shape \(kernel.prefix(8)); expected numbers from 1 on")
    }
    return kernel
  }

  /// - Throws: `malformed` if a constant holds NaN or an infinity: no scale fits such weights.
  func requireFinite(_ value: Value?, _ what: String) throws(QMError) {
    guard let value, let index = builder.firstNonFinite(in: value) else { return }
    throw .malformed(
      "the \(what) '\(builder.name(of: value).abbreviated)' hold a number that is not finite, element \(index)"
    )
  }

  /// Conv: input `[N, C, …]`, weights `[O, C/groups, …]`, optional bias `[O]`.
  func convolution() throws(QMError) {
    let input = try float(0)
    let weights = try float(1)
    let bias = try optionalFloat(2)
    try requireSameType(input, weights, bias)
    let rank = shape(input).rank
    guard rank >= 3, shape(weights).rank == rank else {
      throw .malformed(
        "input \(shape(input)) and weights \(shape(weights)); expected [N, C, …] and [O, C/groups, …] with as many axes"
      )
    }
    if let kernel = try kernelShape() {
      let extents = shape(weights).axes.dropFirst(2).map { $0.extent }
      guard kernel.count == rank - 2, zip(kernel, extents).allSatisfy({ $1 == nil || $0 == $1 })
      else { throw .malformed("kernel_shape \(kernel.prefix(8)) beside weights \(shape(weights))") }
    }
    let groups = try integer("group") ?? 1
    guard groups >= 1, groups <= Self.largestExtent else {
      throw .malformed("group \(groups); expected a number from 1 on")
    }
    try requireFinite(weights, "weights")
    try requireFinite(bias, "bias")
    let window = try window(spatialRank: rank - 2)
    try finish(
      .convolution(
        Convolution(
          order: .channelsFirst, strides: window.strides, dilations: window.dilations,
          padding: window.padding, groups: groups)),
      [input, weights, bias], as: input.type)
  }
}

import QMOperations
import QMTensor

extension NodeReader {
  /// The attributes that convolution and pooling share.
  struct Window {
    var strides: [Int]
    var dilations: [Int]
    var padding: Padding
  }

  /// Bound of extents, strides and dilations, so that sums of them cannot overflow.
  static let largestExtent = Int(Int32.max)

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
          "\(name) \(numbers.prefix(8)); expected \(count) numbers of at least \(least) for \(spatialRank) spatial axes"
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

  /// The attribute `kernel_shape`.
  func kernelShape() throws(QMError) -> [Int]? {
    guard let kernel = try integers("kernel_shape") else { return nil }
    guard kernel.allSatisfy({ $0 >= 1 && $0 <= Self.largestExtent }) else {
      throw .malformed("kernel_shape \(kernel.prefix(8)); expected positive numbers")
    }
    return kernel
  }

  /// - Throws: `malformed` if a constant holds NaN or an infinity, for which there is no scale.
  func requireFinite(_ value: Value?, _ what: String) throws(QMError) {
    guard let value, let index = builder.firstNonFinite(in: value) else { return }
    throw .malformed(
      "the \(what) '\(builder.construction.name(of: value).abbreviated)' hold a number that is not finite, at element \(index)"
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
        "input \(shape(input)) and weights \(shape(weights)); expected [N, C, …] and [O, C/groups, …] of one rank"
      )
    }
    if let kernel = try kernelShape() {
      let extents = shape(weights).axes.dropFirst(2).map { $0.extent }
      guard kernel.count == rank - 2, zip(kernel, extents).allSatisfy({ $1 == nil || $0 == $1 })
      else {
        throw .malformed(
          "kernel_shape \(kernel.prefix(8)) does not match the weights \(shape(weights))")
      }
    }
    let groups = try integer("group") ?? 1
    guard groups >= 1, groups <= Self.largestExtent else {
      throw .malformed("group \(groups); expected a positive number")
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

  /// ConvTranspose: input `[N, C, …]`, weights `[C, O/groups, …]`, optional bias `[O]`. It becomes
  /// a convolution over the input spread out by the strides, with the weights reversed along the
  /// spatial axes.
  func transposedConvolution() throws(QMError) {
    let input = try float(0)
    let given = try float(1)
    let bias = try optionalFloat(2)
    try requireSameType(input, given, bias)
    let rank = shape(input).rank
    guard rank >= 3, shape(given).rank == rank, let extents = shape(given).extents else {
      throw .malformed(
        "input \(shape(input)) and weights \(shape(given)); expected [N, C, …] and [C, O/groups, …] of one rank"
      )
    }
    try requireFinite(given, "weights")
    try requireFinite(bias, "bias")
    let groups = try integer("group") ?? 1
    guard groups >= 1, extents[0] % groups == 0,
      extents.allSatisfy({ (1...Self.largestExtent).contains($0) })
    else {
      throw .malformed("group \(groups) does not fit weights of shape \(extents)")
    }
    let window = try window(spatialRank: rank - 2)
    let (before, after) = try transposedPads(window, kernel: Array(extents[2...]), shape(input))
    let weights = try rearranged(given, extents, groups: groups)
    let operation = Operation.convolution(
      Convolution(
        order: .channelsFirst, strides: window.strides.map { _ in 1 },
        dilations: window.dilations,
        padding: .explicit(before: before.map { max($0, 0) }, after: after.map { max($0, 0) }),
        groups: groups, spacing: window.strides))
    guard (before + after).contains(where: { $0 < 0 }) else {
      return try finish(operation, [input, weights, bias], as: input.type)
    }
    let whole = try append(operation, [input, weights, bias], as: input.type, "whole")
    let crop = try addConstant(before.map { min($0, 0) } + after.map { min($0, 0) }, "crop")
    let axes = try addConstant(Array(2..<rank), "axes")
    try finish(.pad(Pad(.constant)), [whole, crop, nil, axes], as: input.type)
  }

  /// Padding of the spread-out input per spatial axis; a negative number crops the output.
  private func transposedPads(
    _ window: Window, kernel: [Int], _ input: Shape
  ) throws(QMError) -> (before: [Int], after: [Int]) {
    let count = kernel.count
    let added = try integers("output_padding") ?? kernel.map { _ in 0 }
    guard added.count == count, added.allSatisfy({ (0...Self.largestExtent).contains($0) }) else {
      throw .malformed("output_padding \(added.prefix(8)); expected \(count) numbers of at least 0")
    }
    let reaches = (0..<count).map { (kernel[$0] - 1) * window.dilations[$0] }
    func pads(_ axis: Int, total: Int, upper: Bool) -> (Int, Int) {
      // An odd number of elements is cropped more at the end with SAME_UPPER, else at the start;
      // missing elements are added at the end.
      let taken = max(total, 0)
      let small = taken / 2
      let (first, last) = upper ? (small, taken - small) : (taken - small, small)
      return (reaches[axis] - first, reaches[axis] - last + added[axis] + taken - total)
    }
    var before: [Int] = []
    var after: [Int] = []
    let isUpper = window.padding == .sameUpper
    if var wanted = try integers("output_shape") {
      if wanted.count == count + 2 { wanted = Array(wanted[2...]) }
      guard wanted.count == count, wanted.allSatisfy({ (1...Self.largestExtent).contains($0) })
      else {
        throw .malformed("output_shape \(wanted.prefix(8)); expected \(count) positive numbers")
      }
      for axis in 0..<count {
        guard let extent = input[axis + 2].extent, extent >= 1, extent <= Self.largestExtent else {
          throw .unsupported("output_shape with input \(input); expected fixed spatial axes")
        }
        let whole = (extent - 1) * window.strides[axis] + added[axis] + reaches[axis] + 1
        let (first, last) = pads(axis, total: whole - wanted[axis], upper: isUpper)
        before.append(first)
        after.append(last)
      }
      return (before, after)
    }
    for axis in 0..<count {
      switch window.padding {
      case .explicit(let first, let last):
        before.append(reaches[axis] - first[axis])
        after.append(reaches[axis] - last[axis] + added[axis])
      case .sameUpper, .sameLower:
        // The output has extent · stride elements, so the padding does not depend on the extent.
        let total = reaches[axis] + 1 + added[axis] - window.strides[axis]
        let (first, last) = pads(axis, total: total, upper: isUpper)
        before.append(first)
        after.append(last)
      }
    }
    return (before, after)
  }

  /// Weights `[C, O/groups, …]` as `[O, C/groups, …]`, reversed along each spatial axis.
  private func rearranged(
    _ weights: Value, _ extents: [Int], groups: Int
  ) throws(QMError) -> Value {
    let spatial = Array(extents[2...])
    let type = weights.type
    let places = Array(2..<extents.count)
    let ends = spatial.map { _ in Int(Int32.min) }
    var value = try append(
      .slice(Slice()),
      [
        weights, addConstant(spatial.map { $0 - 1 }, "last"), addConstant(ends, "first"),
        addConstant(places, "axes"), addConstant(spatial.map { _ in -1 }, "backwards"),
      ], as: type, "reversed")
    let grouped = [groups, extents[0] / groups, extents[1]] + spatial
    value = try append(
      .reshape(Reshape()), [value, addConstant(grouped, "groups")], as: type, "grouped")
    value = try append(
      .transpose(Transpose(permutation: [0, 2, 1] + places.map { $0 + 1 })), [value], as: type,
      "outputsFirst")
    let joined = [groups * extents[1], extents[0] / groups] + spatial
    return try append(
      .reshape(Reshape()), [value, addConstant(joined, "extents")], as: type, "weights")
  }
}

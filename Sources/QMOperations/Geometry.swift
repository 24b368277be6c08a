import QMTensor

/// How a window slides along one spatial axis.
package struct WindowAxis: Hashable, Sendable {
  /// Extent of the input without padding.
  package let input: Int
  /// Number of taps.
  package let window: Int
  package let stride: Int
  package let dilation: Int
  /// Padding before the first element; at least 0.
  package let before: Int
  /// Padding after the last element; at least 0.
  package let after: Int
  /// Number of positions of the window; at least 0.
  package let output: Int

  /// The element that tap `tap` of window `position` reads; padding if outside `0..<input`.
  package func inputPosition(_ position: Int, tap: Int) -> Int {
    position * stride + tap * dilation - before
  }
}

/// A window over all spatial axes, for convolution and pooling.
struct Window {
  /// The largest extent, stride, dilation or padding: a product of two fits in Int.
  static let largest = Int(Int32.max)

  let extents: [Int]
  let strides: [Int]
  let dilations: [Int]
  let padding: Padding

  /// - Throws: `malformed` if a list does not have one entry per spatial axis, or an entry is out
  ///   of range.
  init(extents: [Int], strides: [Int], dilations: [Int], padding: Padding) throws(QMError) {
    func check(_ list: [Int], _ name: String, _ lowest: Int) throws(QMError) {
      guard list.count == extents.count else {
        throw .malformed(
          "a window of shape \(extents) has \(extents.count) spatial axes, found \(name) \(list)")
      }
      guard list.allSatisfy({ $0 >= lowest && $0 <= Self.largest }) else {
        throw .malformed("\(name) must be within \(lowest)...\(Self.largest), found \(list)")
      }
    }
    try check(extents, "extents", 1)
    try check(strides, "strides", 1)
    try check(dilations, "dilations", 1)
    if case .explicit(let before, let after) = padding {
      try check(before, "pads before", 0)
      try check(after, "pads after", 0)
    }
    self.extents = extents
    self.strides = strides
    self.dilations = dilations
    self.padding = padding
  }

  /// The window along spatial axis `axis` of `input` elements.
  /// - Parameters:
  ///   - input: less than 0 for the gaps of a transposed convolution over no elements.
  ///   - roundsUp: whether a last window that reaches beyond the padded end counts, if it begins in
  ///     the input or in the padding before it.
  /// - Throws: `malformed` if no window fits, but there are elements.
  func along(_ axis: Int, input: Int, roundsUp: Bool = false) throws(QMError) -> WindowAxis {
    let stride = strides[axis]
    guard (-Self.largest...Self.largest).contains(input) else {
      throw .malformed("spatial axis \(axis) has extent \(input), expected 0...\(Self.largest)")
    }
    let reach = (extents[axis] - 1) * dilations[axis] + 1
    let before: Int
    let after: Int
    switch padding {
    case .explicit(let allBefore, let allAfter):
      before = allBefore[axis]
      after = allAfter[axis]
    case .sameUpper, .sameLower:
      let output = (input + stride - 1) / stride
      let total = max(0, (output - 1) * stride + reach - input)
      before = padding == .sameUpper ? total / 2 : total - total / 2
      after = total - before
    }
    let room = input + before + after - reach
    var output = (room >= 0 ? room / stride : -((stride - 1 - room) / stride)) + 1
    if roundsUp, room % stride != 0, output * stride < input + before { output += 1 }
    guard output > 0 || input <= 0 else {
      throw .malformed(
        "a window of \(reach) elements does not fit into spatial axis \(axis): \(input) elements, padded to \(input + before + after)"
      )
    }
    return WindowAxis(
      input: max(input, 0), window: extents[axis], stride: stride, dilation: dilations[axis],
      before: before, after: after, output: max(output, 0))
  }

  /// The output's spatial axis `axis`. If the input's is dynamic, so is the output's; its name is
  /// derived from the input's, or the same if the window keeps every extent.
  func outputAxis(_ axis: Int, input: Shape.Axis, roundsUp: Bool = false) throws(QMError)
    -> Shape.Axis
  {
    if let extent = input.extent {
      return .fixed(try along(axis, input: extent, roundsUp: roundsUp).output)
    }
    guard case .free(let name) = input, !name.isEmpty else { return input }
    let (stride, reach) = (strides[axis], (extents[axis] - 1) * dilations[axis] + 1)
    // The name is a formula of the input's, so that axes with the same derivation have the same
    // name and are known to be equal.
    let derived: String
    switch padding {
    case .sameUpper, .sameLower:
      if stride == 1 { return input }
      derived = "ceil(\(name)/\(stride))"
    case .explicit(let before, let after):
      let slack = before[axis] + after[axis] - reach
      if stride == 1, slack == -1 { return input }
      // Whether a last window counts is not expressed by such a formula.
      if roundsUp { return .free("") }
      derived = "floor((\(name)\(slack < 0 ? "" : "+")\(slack))/\(stride)+1)"
    }
    return .derived(derived)
  }
}

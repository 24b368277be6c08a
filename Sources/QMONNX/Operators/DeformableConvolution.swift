import QMOperations
import QMTensor

extension NodeReader {
  /// Regular places of all elements of the windows along one axis, which become a constant.
  private static let mostPlaces = 1 << 24

  /// DeformConv: a convolution that reads each element of its window at a place of its own, which an
  /// offset moves, by linear interpolation; a mask multiplies what is read. The elements that the
  /// windows read are gathered, and then multiplied with the weights.
  func deformableConvolution() throws(QMError) {
    let (input, weights, offsets) = (try float(0), try float(1), try float(2))
    let bias = try optionalFloat(3)
    let mask = try optionalFloat(4)
    guard shape(input).rank == 4, shape(weights).rank == 4, shape(offsets).rank == 4,
      mask.map({ shape($0).rank == 4 }) ?? true, let channels = shape(input)[1].extent,
      let outer = shape(weights).extents
    else {
      throw .unsupported(
        "input \(shape(input)), weights \(shape(weights)), offsets \(shape(offsets)); expected images [N, C, height, width] with fixed channels",
        remedies: .cutBefore)
    }
    let kernel = Array(outer[2...])
    guard try kernelShape() ?? kernel == kernel else {
      throw .malformed("kernel_shape does not match the weights \(shape(weights))")
    }
    let window = try window(spatialRank: 2)
    guard case .explicit(let before, let after) = window.padding else {
      throw .malformed("auto_pad; ONNX does not define it for this operator")
    }
    let taps = kernel[0].multipliedReportingOverflow(by: kernel[1])
    let groups = try integer("offset_group") ?? 1
    let convolutionGroups = try integer("group") ?? 1
    guard !taps.overflow, (1...1 << 12).contains(taps.partialValue),
      (1...max(channels, 1)).contains(groups), groups <= 1 << 10, channels % groups == 0
    else {
      throw .unsupported(
        "windows of \(kernel) in \(groups) offset_group for \(channels) channels; expected up to \(1 << 12) places, and groups that divide the channels",
        remedies: .cutBefore)
    }
    let count = taps.partialValue
    let extents = try spatialExtents(input)
    var output: [Int] = []
    for axis in 0..<2 {
      // Each factor is at most 2^24, or 2^31 for the attributes.
      let reach = (kernel[axis] - 1) * window.dilations[axis] + 1
      let room = extents[axis] + before[axis] + after[axis] - reach
      guard room >= 0 else {
        throw .malformed("a window of \(reach) elements over \(extents[axis])")
      }
      output.append(room / window.strides[axis] + 1)
    }
    guard output.allSatisfy({ $0 <= Self.mostPlaces / count }) else {
      throw .unsupported(
        "an output of \(output) with \(count) places in a window; expected up to \(Self.mostPlaces / count) along an axis",
        remedies: .cutBefore)
    }
    guard shape(offsets)[1].extent == 2 * groups * count,
      shape(offsets).axes.dropFirst(2).map(\.extent) == output,
      mask.map({ shape($0)[1].extent == groups * count }) ?? true,
      mask.map({ shape($0).axes.dropFirst(2).map(\.extent) == output }) ?? true
    else {
      throw .malformed(
        "offsets \(shape(offsets)) for \(groups) groups, a window of \(count) places and an output of \(output)"
      )
    }
    let whole = try reshaped(offsets, [0, groups, count, 2] + output)
    let kept = try mask.map { (mask) throws(QMError) in
      try reshaped(mask, [0, groups, count] + output)
    }
    let share = channels / groups
    var read: [Value] = []
    for group in 0..<groups {
      let image = Image(
        rows: try rows(of: sliced(input, axis: 1, from: group * share, to: (group + 1) * share)),
        extents: extents, beyond: .zeros, alignsCorners: false)
      let own = try sliced(whole, axis: 1, from: group, to: group + 1)
      var positions: [Value] = []
      for axis in 0..<2 {
        let moved = try reshaped(
          sliced(own, axis: 3, from: axis, to: axis + 1), [0, count] + output)
        // The place of each element of the window, [1, count, height or 1, width or 1].
        var places: [Float] = []
        for tap in 0..<count {
          let step = axis == 0 ? tap / kernel[1] : tap % kernel[1]
          for place in 0..<output[axis] {
            places.append(
              Float(
                place * window.strides[axis] - before[axis] + step * window.dilations[axis]))
          }
        }
        let shape = axis == 0 ? [1, count, output[0], 1] : [1, count, 1, output[1]]
        let regular = Value(
          place: addConstant(try Tensor(shape, places), "places\(axis)").place, type: input.type)
        positions.append(try call("Add", moved, regular))
      }
      var elements = try linear(image, positions)
      if let kept {
        let factors = try reshaped(
          sliced(kept, axis: 1, from: group, to: group + 1), [0, count] + output)
        elements = try call("Mul", elements, call("Unsqueeze", factors, integers([-1])))
      }
      read.append(
        try reshaped(transposed(elements, [0, 4, 1, 2, 3]), [0, share * count] + output))
    }
    let columns =
      try read.count == 1
      ? read[0] : call("Concat", read, ["axis": .integer(1)], outputs: 1)[0]
    let flat = try reshaped(weights, [outer[0], outer[1] * count, 1, 1])
    try finish(
      call(
        "Conv", [columns, flat, bias], ["group": .integer(Int64(convolutionGroups))], outputs: 1))
  }
}

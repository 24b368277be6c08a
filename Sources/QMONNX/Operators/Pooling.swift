import QMOperations
import QMTensor

extension NodeReader {
  func averagePooling() throws(QMError) {
    try pooling(
      flag("count_include_pad", default: false) ? .averageOfPadded : .averageOfInside)
  }

  /// MaxPool and AveragePool over `[N, C, …]`.
  func pooling(_ kind: Pooling.Kind) throws(QMError) {
    let input = try input(0)
    if kind != .maximum { try refuseShortIntegers(input) }
    guard let kernel = try kernelShape() else {
      throw .malformed("attribute 'kernel_shape' is missing")
    }
    guard shape(input).rank == kernel.count + 2 else {
      throw .malformed(
        "input \(shape(input)) does not match kernel_shape \(kernel.prefix(8)); expected [N, C, …]")
    }
    let window = try window(spatialRank: kernel.count)
    if case .explicit(let before, let after) = window.padding {
      for axis in kernel.indices {
        // A window entirely inside the padding has no largest element.
        let reach = (kernel[axis] - 1) * window.dilations[axis] + 1
        guard max(before[axis], after[axis]) < reach else {
          throw .malformed(
            "pads of \(max(before[axis], after[axis])); expected fewer than the \(reach) elements that the window spans"
          )
        }
      }
    }
    if kind == .maximum, node.outputs.count > 1, builder.isUsed(node.outputs[1]) {
      let order = Array(kernel.indices)
      let isColumnMajor = try flag("storage_order", default: false)
      return try finish(
        poolingIndices(
          float(0), window: kernel, window, roundsUp: flag("ceil_mode", default: false),
          order: isColumnMajor ? order.reversed() : order))
    }
    let operation = Operation.pooling(
      Pooling(
        kind: kind, order: .channelsFirst, window: kernel, strides: window.strides,
        dilations: window.dilations, padding: window.padding,
        roundsUp: try flag("ceil_mode", default: false)))
    let isCodes = builder.construction.type(of: input).quantization != .none
    guard input.type == .int8 || input.type == .uint8, !(isCodes && kind == .maximum) else {
      return try finish(operation, [input], as: input.type)
    }
    // Integers of 8 bits are exact in float32.
    let wide = try append(.cast(Cast(to: .float32)), [input], as: .float32, "float32")
    let pooled = try append(operation, [wide], as: .float32, "pooled")
    try finish(.cast(Cast(to: input.type)), [pooled], as: input.type)
  }

  /// GlobalAveragePool and GlobalMaxPool: the extent of each spatial axis becomes 1.
  func globalPooling(_ kind: Reduction.Kind) throws(QMError) {
    let input = try float(0)
    let rank = shape(input).rank
    guard rank >= 2 else {
      throw .malformed("input \(shape(input)); expected [N, C, …]")
    }
    try finish(
      .reduction(Reduction(kind, axes: Array(2..<rank), keepsAxes: true)), [input], as: input.type)
  }
}

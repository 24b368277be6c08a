import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ resize: Resize, _ node: Graph.Node) throws(QMError) {
    guard let x = node.input(0), let target = node.input(1) else {
      throw .malformed("an input is missing")
    }
    var attributes: Attributes = [
      ("coordinate_transformation_mode", .text(resize.coordinates.onnxName)),
      ("antialias", .flag(resize.antialias)), ("exclude_outside", .flag(resize.excludesOutside)),
    ]
    switch resize.mode {
    case .nearest(let rounding):
      attributes += [("mode", .text("nearest")), ("nearest_mode", .text(rounding.onnxName))]
    case .linear: attributes.append(("mode", .text("linear")))
    case .cubic(let coefficient):
      attributes += [("mode", .text("cubic")), ("cubic_coeff_a", .float(coefficient))]
    }
    if resize.coordinates == .region {
      attributes.append(("extrapolation_value", .float(resize.extrapolation)))
    }
    let isScale = graph[target].type.elementType == .float32
    let rank = shape(x).rank
    var name: String
    // With all axes where that is possible: not every runtime knows the attribute.
    if node.input(3) != nil {
      name = try constant(sizesOfCommonScale(resize, node), stepName(node, "sizes"))
      attributes += [
        ("axes", .integers(resize.axes)), ("keep_aspect_ratio_policy", .text("not_larger")),
      ]
    } else if let tensor = graph[target].constant, resize.coordinates != .region, isScale {
      var scales = [Float](repeating: 1, count: rank)
      for (axis, scale) in zip(resize.axes, tensor.elements(as: Float.self)) {
        scales[axis] = scale
      }
      name = try constant(Tensor([rank], scales), stepName(node, "scales"))
    } else if let tensor = graph[target].constant, resize.coordinates != .region,
      let extents = shape(x).extents
    {
      var sizes = extents
      for (axis, size) in zip(resize.axes, tensor.elements(as: Int64.self)) {
        sizes[axis] = Int(size)
      }
      name = try constant(sizes, stepName(node, "sizes"))
    } else {
      attributes.append(("axes", .integers(resize.axes)))
      name = try self.name(of: target)
    }
    let region = resize.coordinates == .region ? try input(node, 2) : ""
    try emit(
      "Resize", [input(node, 0), region] + (isScale ? [name] : ["", name]), node, attributes)
  }

  /// The sizes from which ONNX's policy `not_larger` computes the scale of the coordinates, which is the
  /// least of size / extent, and from it the extents of the output.
  /// - Throws: `unsupported` for scales or extents that the policy does not give.
  private func sizesOfCommonScale(
    _ resize: Resize, _ node: Graph.Node
  ) throws(QMError) -> [Int] {
    let error = QMError.unsupported(
      "scales for the coordinates that are not one for all axes, from constant extents")
    guard let extents = node.input(0).flatMap({ shape($0).extents }),
      let target = node.input(1).flatMap({ graph[$0].constant }), target.elementType == .int64,
      let scales = node.input(3).flatMap({ graph[$0].constant })?.elements(as: Float.self),
      let scale = scales.first, scales.allSatisfy({ $0 == scale }), scale > 0,
      zip(resize.axes, target.elements(as: Int64.self)).allSatisfy({
        (1...0x1p24).contains(Double(extents[$0])) && (0...0x1p24).contains(Double($1))
      })
    else { throw error }
    var sizes: [Int] = []
    for (axis, wanted) in zip(resize.axes, target.elements(as: Int64.self)) {
      let extent = Float(extents[axis])
      guard (extent * scale).rounded(.toNearestOrAwayFromZero) == Float(wanted) else {
        throw error
      }
      // The least size whose ratio is not below the scale.
      var size = Int(max((extent * scale).rounded(.down) - 1, 0))
      while Float(size) / extent < scale { size += 1 }
      sizes.append(size)
    }
    let least = zip(resize.axes, sizes).map { Float($1) / Float(extents[$0]) }.min()
    guard least == scale else { throw error }
    return sizes
  }
}

extension Resize.Coordinates {
  fileprivate var onnxName: String {
    switch self {
    case .halfPixel: "half_pixel"
    case .halfPixelOfSeveral: "pytorch_half_pixel"
    case .halfPixelSymmetric: "half_pixel_symmetric"
    case .halfPixelWithoutShift: "tf_half_pixel_for_nn"
    case .asymmetric: "asymmetric"
    case .alignedCorners: "align_corners"
    case .region: "tf_crop_and_resize"
    }
  }
}

extension Resize.Rounding {
  fileprivate var onnxName: String {
    switch self {
    case .nearestPreferringFloor: "round_prefer_floor"
    case .nearestPreferringCeiling: "round_prefer_ceil"
    case .floor: "floor"
    case .ceiling: "ceil"
    }
  }
}

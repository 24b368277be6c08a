import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ resize: Resize, _ node: Graph.Node) throws(QMError) {
    guard let x = node.input(0), let target = node.input(1) else {
      throw .malformed("an input is missing")
    }
    guard node.input(3) == nil else {
      throw .unsupported("scales for the coordinates beside the extents")
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
    if let tensor = graph[target].constant, resize.coordinates != .region, isScale {
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

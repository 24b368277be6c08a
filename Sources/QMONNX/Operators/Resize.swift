import QMOperations
import QMTensor

extension NodeReader {
  /// Resize. In opset 10 its inputs are data and scales, and coordinates are asymmetric; since
  /// opset 11 they are data, region, scales, sizes.
  func resize() throws(QMError) {
    let input = try input(0)
    if opset < 11 {
      return try resize(
        input, mode(rounding: .floor), .asymmetric, scales: float(1), sizes: nil)
    }
    let scales = try given(2) ? optionalFloat(2) : nil
    let sizes = try given(3) ? int64(3) : nil
    guard (scales == nil) != (sizes == nil) else {
      let found = scales == nil ? "neither" : "both"
      throw .malformed("found \(found) of scales (input 2) and sizes (input 3), expected one")
    }
    let coordinates: Resize.Coordinates
    switch try text("coordinate_transformation_mode", default: "half_pixel") {
    case "half_pixel": coordinates = .halfPixel
    case "pytorch_half_pixel": coordinates = .halfPixelOfSeveral
    case "half_pixel_symmetric": coordinates = .halfPixelSymmetric
    case "tf_half_pixel_for_nn": coordinates = .halfPixelWithoutShift
    case "asymmetric": coordinates = .asymmetric
    case "align_corners": coordinates = .alignedCorners
    case "tf_crop_and_resize": coordinates = .region
    case let name:
      throw .unsupported("coordinate_transformation_mode '\(name.abbreviated)' cannot be read")
    }
    let rounding: Resize.Rounding
    switch try text("nearest_mode", default: "round_prefer_floor") {
    case "round_prefer_floor": rounding = .nearestPreferringFloor
    case "round_prefer_ceil": rounding = .nearestPreferringCeiling
    case "floor": rounding = .floor
    case "ceil": rounding = .ceiling
    case let name: throw .unsupported("nearest_mode '\(name.abbreviated)' cannot be read")
    }
    try resize(input, mode(rounding: rounding), coordinates, scales: scales, sizes: sizes)
  }

  /// Upsample, which Resize replaced. The scales are an attribute before opset 9, an input since.
  func upsample() throws(QMError) {
    let input = try input(0)
    let scales: Value
    if opset < 9 {
      guard let numbers = try numbers("scales") else {
        throw .malformed("attribute 'scales' is missing")
      }
      scales = try addConstant(Tensor([numbers.count], numbers), "scales")
    } else {
      scales = try float(1)
    }
    try resize(input, mode(rounding: .floor), .asymmetric, scales: scales, sizes: nil)
  }

  /// Whether an optional input is present. Some exporters write an empty tensor for an absent one.
  private func given(_ index: Int) throws(QMError) -> Bool {
    guard let value = try optional(index) else { return false }
    return shape(value).extents != [0]
  }

  private func mode(rounding: Resize.Rounding) throws(QMError) -> Resize.Mode {
    switch try text("mode", default: "nearest") {
    case "nearest": return .nearest(rounding)
    case "linear", "bilinear": return .linear
    case "cubic": return .cubic(coefficient: try number("cubic_coeff_a", default: -0.75))
    case let name: throw .unsupported("mode '\(name.abbreviated)' cannot be read")
    }
  }

  private func resize(
    _ input: Value, _ mode: Resize.Mode, _ coordinates: Resize.Coordinates, scales: Value?,
    sizes: Value?
  ) throws(QMError) {
    let rank = shape(input).rank
    let given = try integers("axes")?.map { (axis) throws(QMError) in
      try self.axis(axis, rank: rank)
    }
    let places = given ?? Array(0..<rank)
    guard Set(places).count == places.count else {
      throw .malformed("axes \(places) contain one axis twice")
    }
    // Positions in the target, in ascending order of their axes.
    var order = places.indices.sorted { places[$0] < places[$1] }
    guard let target = scales ?? sizes else { throw .malformed("neither scales nor sizes") }
    guard shape(target).extents == [places.count] else {
      throw .malformed(
        "scales or sizes of shape \(shape(target)); expected one number for each of \(places.count) axes"
      )
    }
    var region: Value?
    if coordinates == .region {
      guard let value = try optionalFloat(1), let tensor = constant(value),
        tensor.elementCount == 2 * places.count
      else {
        throw .unsupported("the region (input 1); expected \(2 * places.count) constant numbers")
      }
      let numbers = tensor.elements(as: Float.self)
      let sorted = order.map { numbers[$0] } + order.map { numbers[$0 + places.count] }
      region = try addConstant(Tensor([sorted.count], sorted), "region")
    }
    var resized = target
    var coordinateScales: Value?
    let policy = try text("keep_aspect_ratio_policy", default: "stretch")
    if let tensor = constant(target) {
      if tensor.elementType == .float32 {
        let numbers = tensor.elements(as: Float.self)
        // An axis that keeps its extent is not resized.
        if coordinates != .region { order.removeAll { numbers[$0] == 1 } }
        resized = try addConstant(Tensor([order.count], order.map { numbers[$0] }), "scales")
      } else {
        var numbers = tensor.elements(as: Int64.self).map { Int($0) }
        var common: Float?
        if policy != "stretch" {
          let (scale, sizes) = try proportional(numbers, places, input, policy)
          (common, numbers) = (scale, sizes)
        }
        if coordinates != .region, common ?? 1 == 1 {
          order.removeAll { .fixed(numbers[$0]) == shape(input)[places[$0]] }
        }
        resized = try addConstant(order.map { numbers[$0] }, "sizes")
        if let common {
          coordinateScales = try addConstant(
            Tensor([order.count], order.map { _ in common }), "scales")
        }
      }
    } else {
      guard order == Array(places.indices), policy == "stretch" else {
        throw .unsupported(
          "computed scales or sizes for axes \(places) with keep_aspect_ratio_policy '\(policy)'; expected constants"
        )
      }
    }
    if order.isEmpty { return try finish([input]) }
    var inputs: [Value?] = [input, resized]
    if region != nil || coordinateScales != nil { inputs.append(region) }
    if let coordinateScales { inputs.append(coordinateScales) }
    try finish(
      .resize(
        Resize(
          mode, coordinates, axes: order.map { places[$0] },
          antialias: flag("antialias", default: false),
          excludesOutside: flag("exclude_outside", default: false),
          extrapolation: number("extrapolation_value", default: 0))),
      inputs, as: input.type)
  }

  /// One scale for all axes, the least or the largest of those that the given sizes ask for, and the
  /// sizes that it gives.
  private func proportional(
    _ sizes: [Int], _ axes: [Int], _ input: Value, _ policy: String
  ) throws(QMError) -> (scale: Float, sizes: [Int]) {
    guard policy == "not_larger" || policy == "not_smaller" else {
      throw .malformed(
        "keep_aspect_ratio_policy '\(policy.abbreviated)'; ONNX defines stretch, not_larger, not_smaller"
      )
    }
    var extents: [Int] = []
    for axis in axes {
      guard let extent = shape(input)[axis].extent, extent > 0 else {
        throw .unsupported(
          "keep_aspect_ratio_policy for input \(shape(input)); expected fixed axes that are not empty"
        )
      }
      extents.append(extent)
    }
    let ratios = zip(sizes, extents).map { Float($0) / Float($1) }
    guard let ratio = policy == "not_larger" ? ratios.min() : ratios.max(),
      ratio.isFinite, ratio >= 0, ratio < Float(1 << 30)
    else { throw .malformed("sizes \(sizes.prefix(8)) are negative or too large") }
    let wanted = extents.map { (Float($0) * ratio).rounded(.toNearestOrAwayFromZero) }
    guard wanted.allSatisfy({ $0 < 0x1p31 }) else {
      throw .malformed("sizes \(sizes.prefix(8)) are too large")
    }
    return (ratio, wanted.map { Int($0) })
  }

  func depthToSpace() throws(QMError) {
    let input = try input(0)
    guard let block = try integer("blocksize") else {
      throw .malformed("attribute 'blocksize' is missing")
    }
    try finish(
      .depthToSpace(
        DepthToSpace(
          block: block, channelsComeFirst: channelsComeFirst(), order: .channelsFirst)),
      [input], as: input.type)
  }

  private func channelsComeFirst() throws(QMError) -> Bool {
    switch try text("mode", default: "DCR") {
    case "DCR": return false
    case "CRD": return true
    case let mode: throw .malformed("mode '\(mode.abbreviated)'; ONNX defines DCR and CRD")
    }
  }

  func spaceToDepth() throws(QMError) {
    let input = try input(0)
    guard let block = try integer("blocksize") else {
      throw .malformed("attribute 'blocksize' is missing")
    }
    try finish(
      .spaceToDepth(
        SpaceToDepth(
          block: block, channelsComeFirst: channelsComeFirst(), order: .channelsFirst)),
      [input], as: input.type)
  }
}

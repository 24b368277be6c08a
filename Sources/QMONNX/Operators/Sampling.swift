import QMOperations
import QMTensor

// Values at computed positions of an image, and positions of values.

extension NodeReader {
  // MARK: GridSample

  /// What lies beyond the border of an image.
  enum Beyond { case zeros, border, reflection }

  /// Reads single elements of an image [N, C, …] whose spatial axes are fixed.
  struct Image {
    /// [N, positions, C]
    let rows: Value
    let extents: [Int]
    let beyond: Beyond
    let alignsCorners: Bool
  }

  /// GridSample: linear, nearest or cubic interpolation at the positions of a grid [N, …, d].
  func gridSample() throws(QMError) {
    let (input, grid) = (try float(0), try float(1))
    let rank = shape(input).rank
    guard rank >= 3, shape(grid).rank == rank, shape(grid)[rank - 1].extent ?? rank - 2 == rank - 2
    else {
      throw .malformed(
        "input \(shape(input)) and grid \(shape(grid)); expected [N, C, …] and [N, …, \(rank - 2)]")
    }
    let extents = try spatialExtents(input)
    let beyond: Beyond
    switch try text("padding_mode", default: "zeros") {
    case "zeros": beyond = .zeros
    case "border": beyond = .border
    case "reflection": beyond = .reflection
    case let name: throw .malformed("padding_mode '\(name.abbreviated)'")
    }
    let image = Image(
      rows: try rows(of: input), extents: extents, beyond: beyond,
      alignsCorners: try flag("align_corners", default: false))
    let mode = try text("mode", default: "linear")
    // The last coordinate of the grid is that of the first spatial axis.
    var positions: [Value] = []
    for (axis, extent) in extents.enumerated() {
      let index = addConstant(try Tensor([], [Int64(extents.count - 1 - axis)]), "coordinate")
      let coordinate = try call("Gather", grid, index, with: ["axis": .integer(-1)])
      let length = Double(image.alignsCorners ? extent - 1 : extent)
      let offset = image.alignsCorners ? 0 : -0.5
      let scaled = try affine(coordinate, length / 2, length / 2 + offset)
      positions.append(
        try mode == "nearest"
          ? inside(call("Round", scaled), image, extent) : inside(scaled, image, extent))
    }
    let sampled: Value
    switch mode {
    case "nearest": sampled = try element(of: image, at: positions)
    case "linear", "bilinear": sampled = try linear(image, positions)
    case "cubic", "bicubic":
      guard extents.count == 2 else {
        throw .unsupported("mode cubic for \(extents.count) spatial axes; expected 2")
      }
      sampled = try cubic(image, positions)
    case let name:
      throw .malformed("mode '\(name.abbreviated)'; ONNX defines linear, nearest, cubic")
    }
    try finish([transposed(sampled, [0, rank - 1] + Array(1..<rank - 1))])
  }

  private func affine(_ value: Value, _ scale: Double, _ offset: Double) throws(QMError) -> Value {
    try append(
      .unary(Unary(.affine(scale: Float(scale), offset: Float(offset)))), [value], as: value.type,
      "affine")
  }

  func spatialExtents(_ input: Value) throws(QMError) -> [Int] {
    var extents: [Int] = []
    for axis in shape(input).axes.dropFirst(2) {
      guard let extent = axis.extent, (1...1 << 24).contains(extent) else {
        throw .unsupported(
          "input \(shape(input)); expected fixed spatial axes", remedies: .cutBefore)
      }
      extents.append(extent)
    }
    guard let count = Shape.elementCount(of: extents), count <= 1 << 30 else {
      throw .unsupported("an image of \(extents); at most 2^30 positions can be read")
    }
    return extents
  }

  /// An image [N, C, …] as [N, positions, C].
  func rows(of input: Value) throws(QMError) -> Value {
    let count = try spatialExtents(input).reduce(1, *)
    return try transposed(reshaped(input, [0, 0, count]), [0, 2, 1])
  }

  /// Coordinates beyond the border as the image says; those beyond a border of zeros stay.
  private func inside(
    _ value: Value, _ image: Image, _ extent: Int
  ) throws(QMError) -> Value {
    let last = try number(Double(extent - 1), like: value)
    let zero = try number(0, like: value)
    switch image.beyond {
    case .zeros: return value
    case .border: return try call("Clip", value, zero, last)
    case .reflection:
      let low = image.alignsCorners ? 0 : -0.5
      let length = Double(image.alignsCorners ? extent - 1 : extent)
      guard length > 0 else { return try call("Mul", value, zero) }
      // A wave that goes up and down between the borders.
      let shifted = try affine(value, 1, -low)
      let rounds = try call("Floor", affine(shifted, 1 / (2 * length), 0))
      let phase = try call("Sub", shifted, affine(rounds, 2 * length, 0))
      let down = try affine(phase, -1, 2 * length)
      return try call(
        "Clip", affine(call("Min", [phase, down], outputs: 1)[0], 1, low), zero, last)
    }
  }

  /// The elements [N, …, C] at whole positions, one value per spatial axis.
  private func element(of image: Image, at positions: [Value]) throws(QMError) -> Value {
    var place: Value?
    var isInside: Value?
    for (position, extent) in zip(positions, image.extents) {
      let zero = try number(0, like: position)
      let last = try number(Double(extent - 1), like: position)
      if image.beyond == .zeros {
        let own = try call(
          "And", call("GreaterOrEqual", position, zero), call("LessOrEqual", position, last))
        isInside =
          try isInside.map { (other) throws(QMError) in try call("And", other, own) } ?? own
      }
      let bounded = try inside(position, image, extent)
      let whole = try append(
        .cast(Cast(to: .int64)), [call("Clip", bounded, zero, last)], as: .int64, "index")
      guard let before = place else {
        place = whole
        continue
      }
      let factor = addConstant(try Tensor([], [Int64(extent)]), "extent")
      place = try call("Add", call("Mul", before, factor), whole)
    }
    guard let place else { throw .malformed("an image without spatial axes") }
    let gathered = try call(
      "GatherND", image.rows, call("Unsqueeze", place, integers([-1])),
      with: ["batch_dims": .integer(1)])
    guard let isInside else { return gathered }
    return try call(
      "Where", call("Unsqueeze", isInside, integers([-1])), gathered, number(0, like: gathered))
  }

  /// The sum over the corners of the cell around each position.
  func linear(_ image: Image, _ positions: [Value]) throws(QMError) -> Value {
    let one = try number(1, like: positions[0])
    var corners: [[(position: Value, weight: Value)]] = []
    for position in positions {
      let low = try call("Floor", position)
      let rest = try call("Sub", position, low)
      corners.append([
        (low, try call("Sub", one, rest)), (try call("Add", low, one), rest),
      ])
    }
    return try weightedSum(image, corners)
  }

  private func cubic(_ image: Image, _ positions: [Value]) throws(QMError) -> Value {
    var corners: [[(position: Value, weight: Value)]] = []
    for position in positions {
      let low = try call("Floor", position)
      let rest = try call("Sub", position, low)
      var taps: [(position: Value, weight: Value)] = []
      for tap in -1...2 {
        let distance = try call("Abs", affine(rest, 1, Double(-tap)))
        taps.append(
          (
            try affine(low, 1, Double(tap)),
            try cubicWeight(distance, isNear: (0...1).contains(tap))
          ))
      }
      corners.append(taps)
    }
    return try weightedSum(image, corners)
  }

  /// The weight of a tap of cubic interpolation with coefficient −0.75.
  private func cubicWeight(_ distance: Value, isNear: Bool) throws(QMError) -> Value {
    let a = -0.75
    // (((a₃ d) + a₂) d + a₁) d + a₀
    let terms = isNear ? [a + 2, -(a + 3), 0, 1] : [a, -5 * a, 8 * a, -4 * a]
    var result = try affine(distance, terms[0], terms[1])
    for term in terms[2...] { result = try affine(call("Mul", result, distance), 1, term) }
    return result
  }

  private func weightedSum(
    _ image: Image, _ corners: [[(position: Value, weight: Value)]]
  ) throws(QMError) -> Value {
    var choices: [[(position: Value, weight: Value)]] = [[]]
    for axis in corners {
      choices = choices.flatMap { choice in axis.map { choice + [$0] } }
    }
    var sum: Value?
    for choice in choices {
      var weight = choice[0].weight
      for other in choice.dropFirst() { weight = try call("Mul", weight, other.weight) }
      let term = try call(
        "Mul", element(of: image, at: choice.map(\.position)),
        call("Unsqueeze", weight, integers([-1])))
      sum = try sum.map { (before) throws(QMError) in try call("Add", before, term) } ?? term
    }
    guard let sum else { throw .malformed("an image without spatial axes") }
    return sum
  }

  /// RoiAlign: means, or largest elements, of samples at equal distances in parts of regions.
  func regionAlign() throws(QMError) {
    let (input, regions) = (try float(0), try float(1))
    let extents = try spatialExtents(input)
    guard extents.count == 2, shape(regions).rank == 2, shape(input).rank == 4,
      let channels = shape(input)[1].extent
    else {
      throw .malformed(
        "input \(shape(input)) and regions \(shape(regions)); expected [N, C, height, width] and [regions, 4]"
      )
    }
    let samples = try integer("sampling_ratio") ?? 0
    guard (1...64).contains(samples) else {
      throw .unsupported(
        "sampling_ratio = \(samples); expected 1 to 64, as the size of a region is not known",
        remedies: .cutBefore)
    }
    let counts = try [integer("output_height") ?? 1, integer("output_width") ?? 1]
    guard counts.allSatisfy({ (1...1024).contains($0) }) else {
      throw .malformed("an output of \(counts); expected 1 to 1024")
    }
    let isMean: Bool
    switch try text("mode", default: "avg") {
    case "avg": isMean = true
    case "max": isMean = false
    case let mode: throw .malformed("mode '\(mode.abbreviated)'; ONNX defines avg and max")
    }
    let transformation = try text(
      "coordinate_transformation_mode", default: opset < 16 ? "output_half_pixel" : "half_pixel")
    let isHalf = transformation == "half_pixel"
    let scale = try Double(number("spatial_scale", default: 1))
    let scaled = try affine(regions, scale, isHalf ? -0.5 : 0)

    /// Lower and upper place of each sample, the weight of the upper one, and whether it is inside.
    func samplePlaces(
      _ axis: Int
    ) throws(QMError) -> (corners: [(place: Value, weight: Value)], isInside: Value) {
      let first = try sliced(scaled, axis: 1, from: 1 - axis, to: 2 - axis)
      var length = try call("Sub", sliced(scaled, axis: 1, from: 3 - axis, to: 4 - axis), first)
      if !isHalf { length = try call("Max", [length, number(1, like: length)], outputs: 1)[0] }
      let steps = counts[axis] * samples
      let parts = (0..<steps).map { (Float($0) + 0.5) / Float(steps) }
      let places = Value(
        place: addConstant(try Tensor([1, steps], parts), "parts").place, type: input.type)
      let position = try call("Add", first, call("Mul", length, places))
      let (extent, zero) = (Double(extents[axis]), try number(0, like: position))
      let isInside = try call(
        "And", call("GreaterOrEqual", position, number(-1, like: position)),
        call("LessOrEqual", position, number(extent, like: position)))
      let last = try number(extent - 1, like: position)
      let inside = try call("Clip", position, zero, last)
      let low = try call("Floor", inside)
      let high = try call("Min", [affine(low, 1, 1), last], outputs: 1)[0]
      let rest = try call("Sub", inside, low)
      return ([(low, try affine(rest, -1, 1)), (high, rest)], isInside)
    }
    let (vertical, horizontal) = (try samplePlaces(0), try samplePlaces(1))
    let (down, across) = (try integers([2]), try integers([1]))
    let image = try reshaped(rows(of: input), [-1, channels])
    let first = try call(
      "Unsqueeze", call("Mul", asWhole(raw(2)), integers([extents[0] * extents[1]])),
      integers([1, 2]))
    let isInside = try call(
      "Unsqueeze",
      call(
        "And", call("Unsqueeze", vertical.isInside, down),
        call("Unsqueeze", horizontal.isInside, across)),
      integers([-1]))
    var terms: [Value] = []
    for row in vertical.corners {
      for column in horizontal.corners {
        let line = try call("Mul", asWhole(row.place), integers([extents[1]]))
        let place = try call(
          "Add", call("Unsqueeze", line, down), call("Unsqueeze", asWhole(column.place), across))
        let element = try call("Gather", image, call("Add", first, place))
        let weight = try call(
          "Mul", call("Unsqueeze", row.weight, down), call("Unsqueeze", column.weight, across))
        let term = try call("Mul", element, call("Unsqueeze", weight, integers([-1])))
        terms.append(try call("Where", isInside, term, number(0, like: term)))
      }
    }
    let joined = try call(isMean ? "Sum" : "Max", terms, outputs: 1)[0]
    let separate = try reshaped(joined, [-1, counts[0], samples, counts[1], samples, channels])
    let pooled = try call(
      isMean ? "ReduceMean" : "ReduceMax", separate, integers([2, 4]),
      with: ["keepdims": .integer(0)])
    try finish([transposed(pooled, [0, 3, 1, 2])])
  }

  private func asWhole(_ value: Value) throws(QMError) -> Value {
    value.type == .int64
      ? value : try append(.cast(Cast(to: .int64)), [value], as: .int64, "whole")
  }

  /// AffineGrid: the positions of an image under affine maps [N, d, d + 1].
  func affineGrid() throws(QMError) {
    let maps = try float(0)
    guard let size = try constantIntegers(1, "extents"), (4...5).contains(size.count),
      size.allSatisfy({ (1...1 << 20).contains($0) }),
      let count = Shape.elementCount(of: Array(size[2...])), count <= 1 << 22
    else { throw .unsupported("extents that are computed, or more than 2^22 positions") }
    let extents = Array(size[2...])
    let rank = extents.count
    let alignsCorners = try flag("align_corners", default: false)
    var base: [Float] = []
    for index in 0..<count {
      var rest = index
      var row: [Float] = []
      for extent in extents.reversed() {
        let place = Double(rest % extent)
        rest /= extent
        let coordinate =
          alignsCorners
          ? extent > 1 ? 2 * place / Double(extent - 1) - 1 : 0
          : (2 * place + 1) / Double(extent) - 1
        row.append(Float(coordinate))
      }
      base += row + [1]
    }
    let positions = addConstant(try Tensor([1, count, rank + 1], base), "positions")
    let moved = try call("MatMul", positions, transposed(maps, [0, 2, 1]))
    try finish([reshaped(moved, [0] + extents + [rank])])
  }

  // MARK: Positions of the largest elements

  /// MaxPool with the output Indices: the places of the largest elements in the flattened input.
  func poolingIndices(
    _ input: Value, window: [Int], _ attributes: Window, roundsUp: Bool, order: [Int]
  ) throws(QMError) -> [Value] {
    let extents = try fixedExtents(input, "the input")
    guard case .explicit(let before, let after) = attributes.padding, !roundsUp else {
      throw .unsupported("Indices with auto_pad or ceil_mode", remedies: .cutBefore)
    }
    let spatial = Array(extents[2...])
    guard let taps = Shape.elementCount(of: window), (1...1024).contains(taps),
      let count = Shape.elementCount(of: extents), count <= 1 << 30
    else { throw .unsupported("Indices of a window of more than 1024 elements") }
    let places = addConstant(
      try Tensor([count], (0..<count).map { Int64($0) }).reshaped(extents), "places")
    let none = Value(
      place: addConstant(try Tensor([], [-Float.infinity]), "none").place, type: input.type)
    let pads = try integers([0, 0] + before + [0, 0] + after)
    let padded = try call("Pad", input, pads, none)
    let paddedPlaces = try call("Pad", flatPlaces(places, spatial, order), pads)
    var values: [Value] = []
    var indices: [Value] = []
    for tap in 0..<taps {
      var rest = tap
      var (starts, ends) = ([Int](), [Int]())
      for axis in window.indices.reversed() {
        let offset = rest % window[axis] * attributes.dilations[axis]
        rest /= window[axis]
        let reach = (window[axis] - 1) * attributes.dilations[axis] + 1
        let length = spatial[axis] + before[axis] + after[axis]
        guard length >= reach else { throw .malformed("a window beyond the input") }
        let last = (length - reach) / attributes.strides[axis] * attributes.strides[axis]
        starts.insert(offset, at: 0)
        ends.insert(offset + last + 1, at: 0)
      }
      func part(_ value: Value) throws(QMError) -> Value {
        let own = try call(
          "Slice", value, integers(starts), integers(ends),
          integers(window.indices.map { $0 + 2 }), integers(attributes.strides))
        return try call("Unsqueeze", own, integers([0]))
      }
      values.append(try part(padded))
      indices.append(try part(paddedPlaces))
    }
    let axis: [String: ONNXAttribute.Value] = ["axis": .integer(0)]
    let stacked = try call("Concat", values, axis, outputs: 1)[0]
    let largest = try call("ArgMax", stacked, with: ["axis": .integer(0), "keepdims": .integer(1)])
    let index = try call(
      "GatherElements", call("Concat", indices, axis, outputs: 1)[0], largest, with: axis)
    let zero = try integers([0])
    return [
      try call("ReduceMax", stacked, zero, with: ["keepdims": .integer(0)]),
      try call("Squeeze", index, zero),
    ]
  }

  /// Places in the flattened input as `storage_order` asks for them.
  private func flatPlaces(
    _ places: Value, _ spatial: [Int], _ order: [Int]
  ) throws(QMError) -> Value {
    guard order != Array(order.indices), let tensor = constant(places) else { return places }
    let count = spatial.reduce(1, *)
    let elements = tensor.elements(as: Int64.self).map { place -> Int64 in
      let (image, own) = (Int(place) / count, Int(place) % count)
      var rest = own
      var indices: [Int] = []
      for extent in spatial.reversed() {
        indices.insert(rest % extent, at: 0)
        rest /= extent
      }
      let turned = order.reduce(0) { $0 * spatial[$1] + indices[$1] }
      return Int64(image * count + turned)
    }
    return addConstant(try Tensor(tensor.shape, elements), "places")
  }

  /// MaxUnpool: zeros, with the elements at their places in the flattened output.
  func maxUnpool() throws(QMError) {
    let input = try float(0)
    let indices = try raw(1)
    let own = try fixedExtents(input, "the input")
    guard let window = try kernelShape(), own.count == window.count + 2 else {
      throw .malformed("attribute 'kernel_shape' is missing or does not fit \(shape(input))")
    }
    let attributes = try self.window(spatialRank: window.count)
    guard case .explicit(let before, let after) = attributes.padding else {
      throw .malformed("auto_pad is no attribute of MaxUnpool")
    }
    var extents = Array(own[..<2])
    for axis in window.indices {
      extents.append(
        (own[axis + 2] - 1) &* attributes.strides[axis] &+ window[axis] &- before[axis]
          &- after[axis])
    }
    // The places are those in the image that the kernel implies, also where another one is asked for.
    let given = try constantIntegers(2, "extents")
    let target = given ?? extents
    guard target.count == extents.count, zip(target, extents).allSatisfy({ $0 >= $1 && $1 >= 0 }),
      Array(target[..<2]) == Array(extents[..<2]), let count = Shape.elementCount(of: extents),
      count <= 1 << 28, let whole = Shape.elementCount(of: target), whole <= 1 << 28
    else { throw .malformed("extents \(target.prefix(8)) for an image of \(extents.prefix(8))") }
    let zeros = try call("Expand", number(0, like: input), integers([count]))
    let flat = try call(
      "ScatterElements", zeros, reshaped(indices, [-1]), reshaped(input, [-1]))
    let image = try reshaped(flat, extents)
    guard target != extents else { return try finish([image]) }
    let pads = [Int](repeating: 0, count: extents.count) + zip(target, extents).map { $0 - $1 }
    try finish(call("Pad", [image, integers(pads)], outputs: 1))
  }

  // MARK: Columns

  /// Col2Im: the sum of the blocks [N, C · block, L] at their places in an image.
  func columnsToImage() throws(QMError) {
    let input = try float(0)
    guard let image = try constantIntegers(1, "extents"),
      let block = try constantIntegers(2, "block"), image.count == block.count, !image.isEmpty,
      (image + block).allSatisfy({ (1...1 << 20).contains($0) }),
      let blockCount = Shape.elementCount(of: block), let pixels = Shape.elementCount(of: image),
      pixels <= 1 << 26, shape(input).rank == 3, let columns = shape(input)[2].extent,
      let channels = shape(input)[1].extent, channels % blockCount == 0
    else {
      throw .unsupported(
        "input \(shape(input)) with extents or blocks that are computed or do not fit")
    }
    let attributes = try window(spatialRank: image.count)
    guard case .explicit(let before, let after) = attributes.padding else {
      throw .malformed("auto_pad is no attribute of Col2Im")
    }
    var counts: [Int] = []
    for axis in image.indices {
      let reach = (block[axis] - 1) * attributes.dilations[axis] + 1
      let length = image[axis] + before[axis] + after[axis]
      guard length >= reach else { throw .malformed("a block beyond the image") }
      counts.append((length - reach) / attributes.strides[axis] + 1)
    }
    guard Shape.elementCount(of: counts) == columns,
      let length = Shape.elementCount(of: [blockCount, columns]), length <= 1 << 26
    else {
      throw .malformed("\(columns) columns for \(counts.prefix(8)) blocks")
    }
    // Elements beyond the border go to a place that is cut off.
    var places: [Int64] = []
    for element in 0..<blockCount {
      for column in 0..<columns {
        var (restOfElement, restOfColumn, factor, place, isInside) = (element, column, 1, 0, true)
        for axis in image.indices.reversed() {
          let own =
            restOfColumn % counts[axis] * attributes.strides[axis]
            + restOfElement % block[axis] * attributes.dilations[axis] - before[axis]
          restOfColumn /= counts[axis]
          restOfElement /= block[axis]
          isInside = isInside && (0..<image[axis]).contains(own)
          place += own * factor
          factor *= image[axis]
        }
        places.append(Int64(isInside ? place : pixels))
      }
    }
    let groups = channels / blockCount
    let flat = try reshaped(input, [0, groups, blockCount * columns])
    let own = try call("Shape", flat)
    let indices = try call(
      "Expand", addConstant(Tensor([1, 1, places.count], places), "places"), own)
    let zeros = try call(
      "Expand", number(0, like: input),
      call(
        "Concat", [sliced(own, axis: 0, from: 0, to: 2), integers([pixels + 1])],
        ["axis": .integer(0)], outputs: 1)[0])
    let sums = try call(
      "ScatterElements", zeros, indices, flat,
      with: ["axis": .integer(2), "reduction": .string(Array("add".utf8))])
    try finish([reshaped(sliced(sums, axis: 2, from: 0, to: pixels), [0, 0] + image)])
  }
}

import QMTensor

/// Resizes images, or any tensor, along some axes.
///
/// Inputs:
/// - x;
/// - the target, one entry per axis in `axes`: float32 scales (the output has `⌊extent · scale⌋`
///   elements, a float32 product) or int64 extents (the scale is `Float(target) / Float(extent)`);
/// - the region, for the coordinates `region` only: float32 starts, then ends, as fractions of each
///   axis;
/// - scales for the coordinates, float32, one per axis in `axes`, if they are not those that the
///   extents give (ONNX's `keep_aspect_ratio_policy`).
///
/// With an input extent L, an output extent M and the scale s, output i reads around position p.
/// Each step is one float32 operation:
///
/// - halfPixel: `(i + 0.5) / s − 0.5`; halfPixelOfSeveral: the same, but 0 where M is 1;
/// - halfPixelSymmetric: `L / 2 · (1 − M / (s · L)) + ((i + 0.5) / s − 0.5)`;
/// - halfPixelWithoutShift: `(i + 0.5) / s`; asymmetric: `i / s`;
/// - alignedCorners: `i · (L − 1) / (M − 1)`; 0 where M is 1;
/// - region: `start · (L − 1) + i · (end − start) · (L − 1) / (M − 1)`, or the middle
///   `0.5 · (start + end) · (L − 1)` where M is 1. Outputs whose p is outside the axis are
///   `extrapolation`.
///
/// Nearest takes the element at p, rounded by `rounding` and clamped to the axis. Linear and cubic
/// weight the elements j around p by f(|j − p| · r), with r = 1, or min(s, 1) with `antialias`:
/// linear `f(u) = 1 − u` for u < 1; cubic, with the coefficient a,
/// `((a + 2) · u − (a + 3)) · u · u + 1` for u ≤ 1 and
/// `((a · u − 5 · a) · u + 8 · a) · u − 4 · a` for u < 2. Weights of elements outside the axis are
/// added to that of the outermost element, or left out with `excludesOutside`. With `antialias` or
/// `excludesOutside`, each weight is divided by their sum. Elements of weight 0 are left out.
///
/// The axes are resized one after the other, in order. Each result is
/// `x[j₀] · w₀ + x[j₁] · w₁ + …`, with each product and each sum rounded.
public struct Resize: ConditionalMovement {
  public static let name = "Resize"

  /// How an output is computed from the elements around its position.
  public enum Mode: Hashable, Sendable {
    /// Data movement: elements of any type; codes keep their quantization.
    case nearest(Rounding)
    /// Linear interpolation; float32 only.
    case linear
    /// Cubic interpolation; float32 only.
    case cubic(coefficient: Float)

    private enum Kind: UInt8, CaseIterable {
      case nearest = 0
      case linear = 1
      case cubic = 2
    }

    mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
      var (kind, rounding, coefficient): (Kind, Rounding, Float) =
        switch self {
        case .nearest(let rounding): (.nearest, rounding, 0)
        case .linear: (.linear, .floor, 0)
        case .cubic(let coefficient): (.cubic, .floor, coefficient)
        }
      try visitor.visit("mode", &kind)
      switch kind {
      case .nearest:
        try visitor.visit("rounding", &rounding)
        self = .nearest(rounding)
      case .linear: self = .linear
      case .cubic:
        try visitor.visit("coefficient", &coefficient)
        self = .cubic(coefficient: coefficient)
      }
    }
  }

  /// How a position is rounded to an element. Raw values are written in files.
  public enum Rounding: UInt8, Hashable, Sendable, CaseIterable {
    case nearestPreferringFloor = 0
    case nearestPreferringCeiling = 1
    case floor = 2
    case ceiling = 3
  }

  /// How the position p of an output follows from its index. Raw values are written in files.
  public enum Coordinates: UInt8, Hashable, Sendable, CaseIterable {
    case halfPixel = 0
    case halfPixelOfSeveral = 1
    case halfPixelSymmetric = 2
    case halfPixelWithoutShift = 3
    case asymmetric = 4
    case alignedCorners = 5
    case region = 6
  }

  /// How an output is computed from the elements around its position.
  public var mode: Mode
  /// How the position of an output follows from its index.
  public var coordinates: Coordinates
  /// Whether the filter is widened for scales below 1.
  public var antialias: Bool
  /// Whether elements outside the axis have no weight.
  public var excludesOutside: Bool
  /// The output at positions outside an axis; for the coordinates `region` only.
  public var extrapolation: Float
  /// The resized axes, ascending, counted from the front.
  public var axes: [Int]

  /// - Parameter axes: ascending, counted from the front.
  public init(
    _ mode: Mode, _ coordinates: Coordinates, axes: [Int], antialias: Bool = false,
    excludesOutside: Bool = false, extrapolation: Float = 0
  ) {
    self.mode = mode
    self.coordinates = coordinates
    self.axes = axes
    self.antialias = antialias
    self.excludesOutside = excludesOutside
    self.extrapolation = extrapolation
  }

  public static let placeholder = Resize(.linear, .halfPixel, axes: [])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try mode.visitAttributes(&visitor)
    try visitor.visit("coordinates", &coordinates)
    try visitor.visit("antialias", &antialias)
    try visitor.visit("excludes outside", &excludesOutside)
    try visitor.visit("extrapolation", &extrapolation)
    try visitor.visit("axes", &axes)
  }

  private var isNearest: Bool { if case .nearest = mode { true } else { false } }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...4, operands)
    var type = try movable(0, of: operands)
    try expectAxes(axes, rank: type.shape.rank)
    let target = try required(1, of: operands)
    guard target.type.elementType == .float32 || target.type.elementType == .int64,
      target.type.quantization == .none, target.type.shape.rank == 1,
      target.type.shape[0].extent ?? axes.count == axes.count
    else {
      throw .malformed(
        "\(Self.name) needs float32 scales or int64 extents, one for each of the axes \(axes), "
          + "found \(target.type)")
    }
    guard isNearest && coordinates != .region || type.elementType == .float32 else {
      throw .unsupported("\(Self.name) \(mode) takes float32, found \(type)")
    }
    if coordinates == .region {
      let region = try required(2, of: operands).type
      guard region.elementType == .float32, region.shape.rank == 1,
        region.shape[0].extent ?? 2 * axes.count == 2 * axes.count
      else {
        throw .malformed(
          "\(Self.name) needs a float32 region, a start and an end for each of the axes \(axes), "
            + "found \(region)")
      }
    }
    if let scales = optional(3, of: operands) {
      guard scales.type.elementType == .float32, scales.type.shape.extents == [axes.count],
        let numbers = scales.constant?.elements(as: Float.self),
        numbers.allSatisfy({ $0 > 0 && $0.isFinite }), target.type.elementType == .int64
      else {
        throw .malformed(
          "\(Self.name) needs extents with positive constant scales for the axes \(axes), found "
            + "\(scales.type)")
      }
    }
    for (position, axis) in axes.enumerated() {
      guard let constant = target.constant else {
        type.shape[axis] = .free("")
        continue
      }
      let resizing = try AxisTarget(constant, position)
      type.shape[axis] =
        try type.shape[axis].extent.map { (extent) throws(QMError) in
          .fixed(try resizing.output(of: extent))
        } ?? resizing.outputAxis
      // Axes are resized one after the other: intermediate results obey the limit too.
      type = try type.checked()
    }
    return [try type.checked()]
  }

  /// One entry of the target.
  private enum AxisTarget {
    case scale(Float)
    case extent(Int)

    init(_ target: Tensor, _ position: Int) throws(QMError) {
      if target.elementType == .float32 {
        let scale = target.elements(as: Float.self)[position]
        guard scale > 0, scale.isFinite else {
          throw .malformed("\(Resize.name) needs positive finite scales, found \(scale)")
        }
        self = .scale(scale)
      } else {
        let extent = Int(target.elements(as: Int64.self)[position])
        guard (0...ValueLimits.byteCount).contains(extent) else {
          throw .malformed(
            "\(Resize.name) needs extents within 0...\(ValueLimits.byteCount), found \(extent)")
        }
        self = .extent(extent)
      }
    }

    func output(of extent: Int) throws(QMError) -> Int {
      switch self {
      case .extent(let output):
        guard output == 0 || extent > 0 else {
          throw .malformed("\(Resize.name) cannot make \(output) elements from none")
        }
        return output
      case .scale(let scale):
        let output = (Float(extent) * scale).rounded(.down)
        guard output < Float(ValueLimits.byteCount) else {
          throw .malformed(
            "\(Resize.name) of \(extent) elements by \(scale) exceeds \(ValueLimits.byteCount)")
        }
        return Int(output)
      }
    }

    /// The output axis of a dynamic input axis.
    var outputAxis: Shape.Axis {
      if case .extent(let extent) = self { .fixed(extent) } else { .free("") }
    }

    func scale(_ extent: Int) -> Float {
      switch self {
      case .scale(let scale): scale
      case .extent(let output): Float(output) / Float(extent)
      }
    }
  }

  // MARK: The elements that an output reads

  /// The elements that each output along one axis reads, ascending, with their weights; none where
  /// the output is the extrapolation.
  package struct AxisTaps: Sendable {
    package let axis: Int
    package let input: Int
    package let output: Int
    /// Output i has the taps `starts[i]..<starts[i + 1]`.
    package private(set) var starts: [Int] = [0]
    package private(set) var places: [Int] = []
    package private(set) var weights: [Float] = []

    fileprivate init(axis: Int, input: Int, output: Int) {
      (self.axis, self.input, self.output) = (axis, input, output)
    }

    fileprivate mutating func append(_ taps: [(place: Int, weight: Float)]) {
      places += taps.map(\.place)
      weights += taps.map(\.weight)
      starts.append(places.count)
    }

    /// Whether every output is the input element at the same index.
    var isIdentity: Bool {
      input == output && places == Array(0..<output) && weights.allSatisfy { $0 == 1 }
    }
  }

  /// The elements that outputs read along the axes that are resized, in order.
  /// - Throws: `unsupported` if they depend on the data of a run.
  package func taps(of operands: [Operand?], output: [Int]) throws(QMError) -> [AxisTaps] {
    func numbers(_ index: Int) throws(QMError) -> [Float]? {
      guard let operand = optional(index, of: operands) else { return nil }
      guard let constant = operand.constant else {
        throw .unsupported("\(Self.name) depends on input \(index), which is no constant")
      }
      return constant.elements(as: Float.self)
    }
    guard let target = try required(1, of: operands).constant else {
      throw .unsupported("\(Self.name) depends on input 1, which is no constant")
    }
    return try taps(
      input: try required(0, of: operands).type.concreteShape(), output: output, target: target,
      region: coordinates == .region ? numbers(2) : nil, scales: numbers(3))
  }

  private func taps(
    input: [Int], output: [Int], target: Tensor, region: [Float]?, scales: [Float]?
  ) throws(QMError) -> [AxisTaps] {
    var result: [AxisTaps] = []
    for (position, axis) in axes.enumerated() {
      let own = try AxisTarget(target, position).scale(input[axis])
      let scale = scales?[position] ?? own
      // An axis that keeps its extent at scale 1 is not resized, whatever positions the coordinates
      // would give.
      if coordinates != .region, scale == 1, input[axis] == output[axis] { continue }
      var outputs = AxisTaps(axis: axis, input: input[axis], output: output[axis])
      for index in 0..<output[axis] {
        let place = place(
          index, scale: scale, input: input[axis], output: output[axis],
          region: region.map { ($0[position], $0[position + axes.count]) })
        guard place.isFinite, place.magnitude < Float(1 << 30), !antialias || scale > 0x1p-24
        else {
          throw .invalidInput("axis \(axis) would be read at position \(place), which is too large")
        }
        if coordinates == .region, place < 0 || place > Float(input[axis] - 1) {
          outputs.append([])
        } else {
          outputs.append(taps(at: place, scale: scale, count: input[axis]))
        }
      }
      if !outputs.isIdentity { result.append(outputs) }
    }
    return result
  }

  private func place(
    _ index: Int, scale: Float, input: Int, output: Int,
    region: (start: Float, end: Float)?
  ) -> Float {
    let i = Float(index)
    let last = Float(input - 1)
    switch coordinates {
    case .halfPixel: return (i + 0.5) / scale - 0.5
    case .halfPixelOfSeveral: return output > 1 ? (i + 0.5) / scale - 0.5 : 0
    case .halfPixelSymmetric:
      let adjustment = Float(output) / (scale * Float(input))
      let offset = Float(input) / 2 * (1 - adjustment)
      return offset + ((i + 0.5) / scale - 0.5)
    case .halfPixelWithoutShift: return (i + 0.5) / scale
    case .asymmetric: return i / scale
    case .alignedCorners: return output > 1 ? i * last / Float(output - 1) : 0
    case .region:
      guard let (start, end) = region else { return 0 }
      if output > 1 {
        let step = (end - start) * last / Float(output - 1)
        return start * last + i * step
      }
      return 0.5 * (start + end) * last
    }
  }

  private func taps(at place: Float, scale: Float, count: Int) -> [(place: Int, weight: Float)] {
    let ratio = antialias ? min(scale, 1) : 1
    let support: Float
    switch mode {
    case .nearest(let rounding):
      let nearest: Float
      switch rounding {
      case .nearestPreferringFloor: nearest = (place - 0.5).rounded(.up)
      case .nearestPreferringCeiling: nearest = (place + 0.5).rounded(.down)
      case .floor: nearest = place.rounded(.down)
      case .ceiling: nearest = place.rounded(.up)
      }
      return [(min(max(Int(nearest), 0), count - 1), 1)]
    case .linear: support = 1 / ratio
    case .cubic: support = 2 / ratio
    }
    var taps: [(place: Int, weight: Float)] = []
    for neighbour in Int((place - support).rounded(.up))...Int((place + support).rounded(.down)) {
      let weight = weight((Float(neighbour) - place).magnitude * ratio)
      guard weight != 0, !excludesOutside || (0..<count).contains(neighbour) else { continue }
      let inside = min(max(neighbour, 0), count - 1)
      if let last = taps.last, last.place == inside {
        taps[taps.count - 1].weight += weight
      } else {
        taps.append((inside, weight))
      }
    }
    // Rounding may move a position just beyond the last element.
    if taps.isEmpty { return [(min(max(Int(place.rounded(.down)), 0), count - 1), 1)] }
    if antialias || excludesOutside {
      let sum = taps.reduce(0) { $0 + $1.weight }
      for index in taps.indices { taps[index].weight /= sum }
    }
    return taps
  }

  private func weight(_ u: Float) -> Float {
    guard case .cubic(let a) = mode else { return max(1 - u, 0) }
    if u <= 1 {
      let inner = (a + 2) * u - (a + 3)
      return inner * u * u + 1
    }
    if u < 2 {
      let inner = (a * u - 5 * a) * u + 8 * a
      return inner * u - 4 * a
    }
    return 0
  }

  // MARK: Reference

  private func region(_ inputs: [TensorView?]) -> [Float]? {
    guard coordinates == .region, inputs.count > 2, let region = inputs[2] else { return nil }
    return Array(region.elements(as: Float.self))
  }

  /// The scales for the coordinates; nil if the target gives them.
  private func scales(_ inputs: [TensorView?]) -> [Float]? {
    guard inputs.count > 3, let scales = inputs[3] else { return nil }
    return Array(scales.elements(as: Float.self))
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (input, target) = (inputs[0]!, inputs[1]!)
    let copy = try Tensor(
      target.elementType, target.shape,
      buffer: Buffer.copying(UnsafeRawBufferPointer(start: target.base, count: target.byteCount)))
    let allTaps = try taps(
      input: input.shape, output: outputs[0].shape, target: copy, region: region(inputs),
      scales: scales(inputs))
    if isNearest, coordinates != .region {
      try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
        var place = index
        for taps in allTaps { place[taps.axis] = taps.places[index[taps.axis]] }
        outputs[0].copyElement(at: index, from: input, at: place)
      }
      return
    }
    var shape = input.shape
    var numbers = Array(input.elements(as: Float.self))
    // An output that is outside along one axis is the extrapolation, whatever the other axes read.
    var isOutside = [Bool](repeating: false, count: numbers.count)
    for taps in allTaps {
      let inner = shape[(taps.axis + 1)...].reduce(1, *)
      let outer = shape[..<taps.axis].reduce(1, *)
      var next = [Float](repeating: extrapolation, count: outer * taps.output * inner)
      var nextIsOutside = [Bool](repeating: true, count: next.count)
      for position in next.indices {
        let index = position / inner % taps.output
        let start = position / inner / taps.output * taps.input * inner + position % inner
        let range = taps.starts[index]..<taps.starts[index + 1]
        guard let first = range.first else { continue }
        var sum = numbers[start + taps.places[first] * inner] * taps.weights[first]
        for tap in range.dropFirst() {
          let product = numbers[start + taps.places[tap] * inner] * taps.weights[tap]
          sum = sum + product
        }
        nextIsOutside[position] = isOutside[start + taps.places[first] * inner]
        next[position] = nextIsOutside[position] ? extrapolation : canonical(sum)
      }
      shape[taps.axis] = taps.output
      (numbers, isOutside) = (next, nextIsOutside)
    }
    let output = outputs[0].elements(as: Float.self)
    for index in output.indices { output[index] = numbers[index] }
  }

  // MARK: Kernels

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard kernels != .reference, coordinates != .region,
      let target = try required(1, of: operands).constant
    else { return nil }
    let input = try required(0, of: operands).type
    let inputShape = try input.concreteShape()
    let outputShape = try outputs[0].concreteShape()
    guard !outputShape.contains(0) else { return nil }
    let scales = optional(3, of: operands)?.constant.map {
      Array($0.elements(as: Float.self))
    }
    let taps = try taps(
      input: inputShape, output: outputShape, target: target, region: nil, scales: scales)
    guard !taps.isEmpty else { return try .copyingBytes(of: outputs[0], Self.name, kernels) }
    return isNearest
      ? nearestKernel(taps, inputShape, outputShape, input.elementType.byteCount)
      : filteringKernel(taps, inputShape)
  }

  /// Copies the blocks of elements after the last resized axis.
  private func nearestKernel(
    _ taps: [AxisTaps], _ input: [Int], _ output: [Int], _ size: Int
  ) -> Kernel {
    let last = taps[taps.count - 1].axis
    let blockByteCount = output[(last + 1)...].reduce(size, *)
    let rowCount = output[..<last].reduce(1, *)
    let row = taps[taps.count - 1].places
    return Kernel(name: "\(Self.name) nearest") { (memory) throws(QMError) in
      let source = UnsafeRawPointer(memory.inputs[0]!)
      let target = memory.outputs[0]!
      memory.threads.run(forRangesOf: rowCount, byteCount: row.count * blockByteCount) { rows, _ in
        for number in rows {
          var rest = number
          var start = 0
          var step = input[last]
          for axis in (0..<last).reversed() {
            let index = rest % output[axis]
            rest /= output[axis]
            start += (taps.first { $0.axis == axis }?.places[index] ?? index) * step
            step *= input[axis]
          }
          let place = target + number * row.count * blockByteCount
          for (index, nearest) in row.enumerated() {
            (place + index * blockByteCount).copyMemory(
              from: source + (start + nearest) * blockByteCount, byteCount: blockByteCount)
          }
        }
      }
    }
  }

  /// Resizes one axis after the other, with two scratch buffers in turn.
  private func filteringKernel(_ taps: [AxisTaps], _ input: [Int]) -> Kernel {
    struct Pass: Sendable {
      let taps: AxisTaps
      let outer: Int
      let inner: Int
      var byteCount: Int { 4 * outer * taps.output * inner }
    }
    var passes: [Pass] = []
    var shape = input
    for taps in taps {
      passes.append(
        Pass(
          taps: taps, outer: shape[..<taps.axis].reduce(1, *),
          inner: shape[(taps.axis + 1)...].reduce(1, *)))
      shape[taps.axis] = taps.output
    }
    let largest = passes.dropLast().map(\.byteCount).max() ?? 0
    let place = (largest + Buffer.alignment - 1) / Buffer.alignment * Buffer.alignment
    return Kernel(
      name: "\(Self.name) filter",
      scratchByteCount: { [passes] _ in
        passes.count > 2 ? 2 * place : passes.count == 2 ? place : 0
      }
    ) { [passes] (memory) throws(QMError) in
      var source = memory.inputs[0]!.assumingMemoryBound(to: Float.self)
      for (number, pass) in passes.enumerated() {
        let target =
          (number == passes.count - 1
          ? memory.outputs[0]! : memory.scratch + number % 2 * place)
          .assumingMemoryBound(to: Float.self)
        let (taps, inner, from) = (pass.taps, pass.inner, source)
        memory.threads.run(forRangesOf: pass.outer * taps.output, byteCount: 4 * inner) { rows, _ in
          for row in rows {
            let (block, index) = row.quotientAndRemainder(dividingBy: taps.output)
            let start = from + block * taps.input * inner
            let out = target + row * inner
            let range = taps.starts[index]..<taps.starts[index + 1]
            for tap in range {
              let weight = taps.weights[tap]
              let line = start + taps.places[tap] * inner
              if tap == range.lowerBound {
                for column in 0..<inner { out[column] = line[column] * weight }
              } else {
                for column in 0..<inner {
                  let product = line[column] * weight
                  out[column] = out[column] + product
                }
              }
            }
            for column in 0..<inner { out[column] = canonical(out[column]) }
          }
        }
        source = target
      }
    }
  }
}

extension Resize {
  /// The nearest element is moved; with coordinates `region`, the output also holds the
  /// extrapolation.
  public func elementSource(operandCount: Int) -> ElementSource {
    if case .nearest = mode, coordinates != .region { .moved(from: [0]) } else { .computed }
  }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    // The resized axes must keep their relative order, because it is the order of the sums.
    let places = axes.map { order.places.indices.contains($0) ? order.places[$0] : -1 }
    guard places == places.sorted(), !places.contains(-1) else { return nil }
    var result = self
    result.axes = places
    return ReorderedForm(.resize(result), [.reordered], of: operands)
  }
}

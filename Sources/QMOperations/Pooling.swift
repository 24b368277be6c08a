import CQMKernels
import QMTensor

/// The largest element, or the mean, of each window.
///
/// Input `[N, C, …]` or `[N, …, C]`, depending on `order`: float32, or int8, uint8 or int16 codes
/// with fixed quantization. The elements of a window that are inside the input are taken in
/// row-major order of the window's taps:
///
/// - maximum: `x > best ? x : best`, starting with −∞, so that NaN is skipped. For codes: the
///   largest code, or the lowest code of the type if the window has no elements;
/// - average: `sum + x` in float32, starting with +0, then `sum / Float(count)`. For codes: the
///   exact sum of `code − zeroPoint`, then `Float(sum) · (scale / Float(count))`. A count of 0 is
///   replaced by 1.
public struct Pooling: IntegerOperation, EncodedOutput {
  public static let name = "Pooling"

  /// Maximum or average. Raw values are written in files.
  public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    /// The largest element. The output has the input's type, and `output` is ignored.
    case maximum = 0
    /// The sum divided by the number of elements inside the input.
    case averageOfInside = 1
    /// The sum divided by the number of elements inside the padded input.
    case averageOfPadded = 2
  }

  /// Maximum or average.
  public var kind: Kind
  /// Order of the input's and the output's axes.
  public var order: ChannelOrder
  /// Extent of the window along each spatial axis.
  public var window: [Int]
  /// Distance between neighbouring windows along each spatial axis.
  public var strides: [Int]
  /// Distance between neighbouring taps along each spatial axis.
  public var dilations: [Int]
  /// Padding of the spatial axes.
  public var padding: Padding
  /// Whether a last window that reaches beyond the padded end counts (ONNX's `ceil_mode`).
  public var roundsUp: Bool
  /// How averages are stored.
  public var output: OutputEncoding

  /// Window, strides and dilations have one entry per spatial axis.
  public init(
    kind: Kind, order: ChannelOrder, window: [Int], strides: [Int], dilations: [Int],
    padding: Padding, roundsUp: Bool, output: OutputEncoding = .float32
  ) {
    self.kind = kind
    self.order = order
    self.window = window
    self.strides = strides
    self.dilations = dilations
    self.padding = padding
    self.roundsUp = roundsUp
    self.output = output
  }

  public static let placeholder = Pooling(
    kind: .maximum, order: .channelsFirst, window: [], strides: [], dilations: [],
    padding: .sameUpper, roundsUp: false)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("kind", &kind)
    try visitor.visit("order", &order)
    try visitor.visit("window", &window)
    try visitor.visit("strides", &strides)
    try visitor.visit("dilations", &dilations)
    try padding.visitAttributes(&visitor)
    try visitor.visit("rounds up", &roundsUp)
    try visitor.visit("output", &output)
  }

  /// The window over the spatial axes of an input.
  /// - Throws: `malformed` if the attributes contradict each other or `shape`.
  func window(for shape: Shape) throws(QMError) -> Window {
    guard shape.rank == window.count + 2, !window.isEmpty else {
      throw .malformed(
        "a window of shape \(window) needs a batch, channels and \(window.count) more axes, found \(shape)"
      )
    }
    let checked = try Window(
      extents: window, strides: strides, dilations: dilations, padding: padding)
    // Kernels count the taps of a window.
    guard let tapCount = Shape.elementCount(of: window), tapCount <= Window.largest else {
      throw .malformed("a window has at most \(Window.largest) taps, found shape \(window)")
    }
    return checked
  }

  /// The tensor's axis that is spatial axis `axis`.
  func place(of axis: Int) -> Int { order == .channelsFirst ? axis + 2 : axis + 1 }

  /// How the window slides along each spatial axis of an input of this shape.
  package func windowAxes(for shape: [Int]) throws(QMError) -> [WindowAxis] {
    let window = try window(for: Shape(shape))
    var axes: [WindowAxis] = []
    for axis in self.window.indices {
      axes.append(
        try window.along(axis, input: shape[place(of: axis)], roundsUp: roundsUp))
    }
    return axes
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let input = try required(0, of: operands).type.checked()
    let window = try window(for: input.shape)
    var result = input
    for axis in self.window.indices {
      result.shape[place(of: axis)] = try window.outputAxis(
        axis, input: input.shape[place(of: axis)], roundsUp: roundsUp)
    }
    try expectFloatOrCodes(input)
    return [try kind == .maximum ? result.checked() : result.stored(as: output)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0]
    let axes = try windowAxes(for: input.shape)
    func offset(_ index: [Int]) -> Int { zip(index, input.shape).reduce(0) { $0 * $1.1 + $1.0 } }
    var position = 0
    try forEachIndex(of: output.shape) { (index) throws(QMError) in
      // Elements of the window in row-major order of its taps.
      var elements: [Int] = []
      var paddedCount = 0
      try forEachIndex(of: window) { (tap) throws(QMError) in
        var place = index
        var isInside = true
        var isPadded = true
        for (axis, along) in axes.enumerated() {
          let at = along.inputPosition(index[self.place(of: axis)], tap: tap[axis])
          place[self.place(of: axis)] = at
          isInside = isInside && (0..<along.input).contains(at)
          isPadded = isPadded && at < along.input + along.after
        }
        if isInside { elements.append(offset(place)) }
        if isPadded { paddedCount += 1 }
      }
      pool(input, elements, paddedCount, to: output, position)
      position += 1
    }
  }

  /// Stores the maximum or mean of the elements at these positions.
  private func pool(
    _ input: TensorView, _ elements: [Int], _ paddedCount: Int, to output: TensorView,
    _ position: Int
  ) {
    if kind == .maximum {
      if case .fixed = input.quantization {
        let codes = elements.lazy.map { input.code(at: $0) }
        output.setCode(codes.max() ?? input.elementType.codes!.lowerBound, at: position)
      } else {
        let best = elements.reduce(-Float.infinity) { (best, element) in
          let value = input.number(at: element)
          return value > best ? value : best
        }
        output.store(best, at: position)
      }
      return
    }
    let count = max(kind == .averageOfPadded ? paddedCount : elements.count, 1)
    if case .fixed(let scale, let zeroPoint) = input.quantization {
      let sum = elements.reduce(0) { $0 + Int(input.code(at: $1) - zeroPoint) }
      output.store(Float(sum) * (scale / Float(count)), at: position)
    } else {
      let sum = elements.reduce(Float(0)) { $0 + input.number(at: $1) }
      output.store(canonical(sum / Float(count)), at: position)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number, window.count <= 3 else { return nil }
    let input = try required(0, of: operands).type
    let output = outputs[0]
    let shape = try input.concreteShape()
    let name = "\(Self.name) \(kernels.rawValue)"
    // Kernels sum codes in int32. Windows whose sums might not fit use the reference loops.
    let tapCount = window.reduce(1.0) { $0 * Double($1) }
    guard kind == .maximum || input.quantization == .none || tapCount * 65535 < 0x1p31 else {
      return nil
    }
    var axes = try windowAxes(for: shape)
    while axes.count < 3 {
      axes.insert(
        WindowAxis(input: 1, window: 1, stride: 1, dilation: 1, before: 0, after: 0, output: 1),
        at: 0)
    }
    func description(_ axis: WindowAxis) -> qm_window_axis {
      qm_window_axis(
        input: axis.input, window: axis.window, stride: axis.stride, dilation: axis.dilation,
        before: axis.before, after: axis.after, output: axis.output)
    }
    // Codes with channels first are pooled channel by channel, as channels last with one channel.
    let isFirst = order == .channelsFirst
    let pooling = qm_pooling(
      kind: Int32(kind.rawValue), depth: description(axes[0]), height: description(axes[1]),
      width: description(axes[2]), channels: isFirst ? 1 : shape[shape.count - 1],
      in_type: input.codes, out_type: output.codes, inverse_scale: output.inverseScale)
    let family = qm_pooling_for(set)
    let planeCount = shape[0] * (isFirst ? shape[1] : 1)
    let inputCount = shape.reduce(1, *)

    if isFirst, input.elementType == .float32, output.elementType == .float32 {
      let planes = family.planes!
      return Kernel(name: name) { (memory) throws(QMError) in
        let source = memory.inputs[0]!.assumingMemoryBound(to: Float.self)
        let target = memory.outputs[0]!.assumingMemoryBound(to: Float.self)
        memory.threads.run(forRangesOf: planeCount, byteCount: 4 * (inputCount / planeCount)) {
          items, _ in
          withUnsafePointer(to: pooling) {
            planes($0, source, target, items.lowerBound, items.upperBound)
          }
        }
      }
    }
    let rows = family.rows!
    let rowCount = planeCount * axes[0].output * axes[1].output
    let rowByteCount =
      axes[2].output * pooling.channels * input.elementType.byteCount * Int(min(tapCount, 64))
    return Kernel(name: name) { (memory) throws(QMError) in
      let source = memory.inputs[0]!
      let target = memory.outputs[0]!
      memory.threads.run(forRangesOf: rowCount, byteCount: rowByteCount) { items, _ in
        withUnsafePointer(to: pooling) {
          rows($0, source, target, items.lowerBound, items.upperBound)
        }
      }
    }
  }
}

extension Pooling {
  public func elementSource(operandCount: Int) -> ElementSource {
    kind == .maximum ? .picked : .computed
  }
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(
      operands: [0], result: kind == .maximum ? .codesOfInput : encoded(as: Operation.pooling))
  }
  public var accumulators: Accumulators { .wide }
  public var prefersChannelsLast: Bool { order == .channelsFirst }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order == .channelsLast(rank: order.rank), self.order == .channelsFirst else { return nil }
    var result = self
    result.order = .channelsLast
    return ReorderedForm(.pooling(result), [.reordered], of: operands)
  }
}

import CQMKernels
import QMTensor

/// How far windows reach beyond the edges of the spatial axes.
public enum Padding: Hashable, Sendable {
  /// The number of elements before and after each spatial axis.
  case explicit(before: [Int], after: [Int])
  /// As many elements as make the output extent ⌈input / stride⌉; an odd one is added after.
  case sameUpper
  /// As ``sameUpper``, but an odd one is added before.
  case sameLower
}

extension Padding {
  private enum Kind: UInt8, CaseIterable {
    case explicit = 0
    case sameUpper = 1
    case sameLower = 2
  }

  mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    var (kind, before, after): (Kind, [Int], [Int]) =
      switch self {
      case .explicit(let before, let after): (.explicit, before, after)
      case .sameUpper: (.sameUpper, [], [])
      case .sameLower: (.sameLower, [], [])
      }
    try visitor.visit("padding", &kind)
    switch kind {
    case .explicit:
      try visitor.visit("padding before", &before)
      try visitor.visit("padding after", &after)
      self = .explicit(before: before, after: after)
    case .sameUpper: self = .sameUpper
    case .sameLower: self = .sameLower
    }
  }
}

/// Convolution over 1 to 3 spatial axes.
///
/// Input positions: ``ProductOperand``. Input `[N, C, …]` or `[N, …, C]`, depending on `order`.
/// Weights `[O, C/groups, k…]` with channels first, `[O, k…, C/groups]` with channels last.
/// Padding represents the number 0.
public struct Convolution: ProductOperation {
  public static let name = "Convolution"

  /// Order of the axes of input, weights and output.
  public var order: ChannelOrder
  /// Distance between neighbouring windows along each spatial axis.
  public var strides: [Int]
  /// Distance between neighbouring taps along each spatial axis.
  public var dilations: [Int]
  /// Padding of the spatial axes.
  public var padding: Padding
  /// Groups of channels; an output channel reads the input channels of its group.
  public var groups: Int
  /// The steps from an accumulator to the stored element.
  public var epilogue: Epilogue
  /// Distance between neighbouring elements of the input along each spatial axis; the positions
  /// between them are gaps. With a spacing above 1 the convolution is transposed; then the strides
  /// must be 1 and the padding explicit.
  public var spacing: [Int]

  /// - Parameter spacing: nil for 1 along every axis.
  public init(
    order: ChannelOrder, strides: [Int], dilations: [Int], padding: Padding, groups: Int,
    epilogue: Epilogue = Epilogue(), spacing: [Int]? = nil
  ) {
    self.spacing = spacing ?? strides.map { _ in 1 }
    self.order = order
    self.strides = strides
    self.dilations = dilations
    self.padding = padding
    self.groups = groups
    self.epilogue = epilogue
  }

  public static let placeholder = Convolution(
    order: .channelsFirst, strides: [], dilations: [], padding: .sameUpper, groups: 1)
  /// The same with a ``spacing``, which is then an attribute of its own.
  public static let transposedPlaceholder = Convolution(
    order: .channelsFirst, strides: [], dilations: [], padding: .sameUpper, groups: 1,
    spacing: [2])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    let hasSpacing = isTransposed
    try visitor.visit("order", &order)
    try visitor.visit("strides", &strides)
    try visitor.visit("dilations", &dilations)
    try padding.visitAttributes(&visitor)
    try visitor.visit("groups", &groups)
    try epilogue.visitAttributes(&visitor)
    guard hasSpacing else {
      spacing = strides.map { _ in 1 }
      return
    }
    try visitor.visit("spacing", &spacing)
    guard isTransposed else {
      throw visitor.malformed("a transposed convolution needs a spacing above 1, found \(spacing)")
    }
  }
}

extension Convolution {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    ProductOperand.integerForm(of: operands, weights: weightOperands(of: operands)) { output in
      var result = self
      result.epilogue.output = output
      return .convolution(result)
    }
  }
  public var accumulators: Accumulators {
    .products([ProductOperand.integerSum(.channelThenWindow)])
  }
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] {
    let rank = optional(ProductOperand.weights, of: operands)?.type.shape.rank
    let takesGroups = order == .channelsLast && !isTransposed
    return [
      WeightOperand(ProductOperand.weights, groupAxis: takesGroups ? rank.map { $0 - 1 } : nil)
    ]
  }
  /// Taps of a transposed convolution that read a gap are not counted.
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? {
    guard inputs.count > ProductOperand.weights, let weights = inputs[ProductOperand.weights] else {
      return nil
    }
    let gaps = max(spacing.reduce(1) { $0 &* max($1, 1) }, 1)
    return Shape.elementCount(of: output + [(weights.dropFirst().reduce(1, *) + gaps - 1) / gaps])
  }
  public var prefersChannelsLast: Bool { order == .channelsFirst }
  public var analyticRange: ClosedRange<Float>? { epilogue.functions.last?.analyticRange }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order == .channelsLast(rank: order.rank), self.order == .channelsFirst else { return nil }
    var result = self
    result.order = .channelsLast
    var changes = [ReorderedForm.Change](repeating: .unchanged, count: ProductOperand.count)
    for position in [ProductOperand.input, ProductOperand.weights, ProductOperand.residual] {
      changes[position] = .reordered
    }
    return ReorderedForm(.convolution(result), changes, of: operands)
  }
}

extension Convolution {
  /// The extents of one convolution, by name.
  package struct Extents {
    package let samples: Int
    package let inputChannels: Int
    package let outputChannels: Int
    package let axes: [WindowAxis]
  }

  private func spatialAxes(rank: Int) -> Range<Int> {
    order == .channelsFirst ? 2..<rank : 1..<(rank - 1)
  }

  /// Whether there are gaps between elements of the input.
  public var isTransposed: Bool { spacing.contains { $0 != 1 } }

  /// - Throws: `malformed` if the spacing contradicts the other attributes.
  private func checkSpacing() throws(QMError) {
    guard spacing.count == strides.count,
      spacing.allSatisfy({ (1...Window.largest).contains($0) })
    else {
      throw .malformed(
        "spacing needs one positive entry per spatial axis, found \(spacing), strides \(strides)")
    }
    guard isTransposed else { return }
    guard case .explicit = padding, strides.allSatisfy({ $0 == 1 }) else {
      throw .malformed("spacing \(spacing) needs strides of 1 and explicit padding")
    }
  }

  /// Extent of an input axis, including its gaps; less than 1 without elements.
  private func spaced(_ extent: Int, _ axis: Int) throws(QMError) -> Int {
    let (distance, overflow) = (extent - 1).multipliedReportingOverflow(by: spacing[axis])
    guard !overflow, distance < Window.largest else {
      throw .malformed(
        "\(extent) elements with spacing \(spacing[axis]) exceed an extent of \(Window.largest)")
    }
    return distance + 1
  }

  private func channelAxis(rank: Int) -> Int { order == .channelsFirst ? 1 : rank - 1 }

  private func window(of weights: [Int]) throws(QMError) -> Window {
    try Window(
      extents: Array(weights[spatialAxes(rank: weights.count)]), strides: strides,
      dilations: dilations, padding: padding)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(ProductOperand.input, of: operands).type.shape
    let weights = try required(ProductOperand.weights, of: operands).type.shape
    guard (3...5).contains(input.rank), weights.rank == input.rank else {
      throw .malformed(
        "a convolution needs 1 to 3 spatial axes and weights of the input's rank, found input \(input), weights \(weights)"
      )
    }
    guard let weightShape = weights.extents else {
      throw .unsupported("a convolution needs weights of known shape, found \(weights)")
    }
    let channelAxis = channelAxis(rank: input.rank)
    let outputChannels = weightShape[0]
    let groupChannels = weightShape[channelAxis]
    guard groups >= 1, groups <= Window.largest, groupChannels >= 1,
      groupChannels <= Window.largest, outputChannels >= 1, outputChannels % groups == 0
    else {
      throw .malformed("weights \(weights) do not divide into \(groups) groups")
    }
    if let channels = input[channelAxis].extent, channels != groupChannels * groups {
      throw .malformed(
        "\(groups) groups of weights \(weights) take \(groupChannels * groups) channels, found \(channels) in input \(input)"
      )
    }
    let window = try window(of: weightShape)
    try checkSpacing()
    var output = input
    output[channelAxis] = .fixed(outputChannels)
    for (axis, position) in spatialAxes(rank: input.rank).enumerated() {
      if let extent = input[position].extent {
        output[position] = .fixed(try window.along(axis, input: spaced(extent, axis)).output)
      } else if spacing[axis] > 1 {
        output[position] = .free("")
      } else {
        output[position] = try window.outputAxis(axis, input: input[position])
      }
    }
    let rule = ProductRule(
      operation: Self.name, channelAxis: 0, channels: .fixed(outputChannels), parameterAxes: 1,
      takesActivationsAsWeights: false,
      groupAxis: order == .channelsLast ? weights.rank - 1 : nil)
    return [try rule.outputType(for: operands, shape: output, epilogue: epilogue)]
  }

  /// The extents of concrete operands that ``outputTypes(for:)`` accepts.
  package func extents(input: [Int], weights: [Int]) throws(QMError) -> Extents {
    let window = try window(of: weights)
    var axes: [WindowAxis] = []
    for (axis, position) in spatialAxes(rank: input.count).enumerated() {
      axes.append(try window.along(axis, input: spaced(input[position], axis)))
    }
    return Extents(
      samples: input[0], inputChannels: input[channelAxis(rank: input.count)],
      outputChannels: weights[0], axes: axes)
  }
}

// MARK: - Kernels

extension Convolution {
  /// How the weights are packed; nil if only the reference loops can compute this convolution.
  /// - Parameter rank: number of leading spatial axes that count. The axes after them have extent
  ///   1, so that positions along the last axis that counts are contiguous in memory.
  private func cut(
    _ input: ElementType, _ weights: Operand, rank: Int, _ kernels: KernelSet
  ) -> (ConvolutionKernel.Cut, ProductPanels)? {
    guard order == .channelsLast, !isTransposed, let shape = weights.type.shape.extents else {
      return nil
    }
    let cut = ConvolutionKernel.Cut(
      channels: (shape[shape.count - 1], shape[0]),
      window: Array(shape[1...].prefix(rank)), dilations: Array(dilations.prefix(rank)),
      groups: groups)
    guard
      let table = ProductTable(
        for: kernels, input: input, weights: weights, depth: cut.depth, columns: cut.columns,
        isDepthwise: cut.isDepthwise)
    else { return nil }
    let elementByteCount = weights.type.elementType.byteCount
    return (cut, cut.panels(of: table, elementByteCount: elementByteCount))
  }

  /// Number of spatial axes without the last ones of extent 1. A dynamic axis with a window of 1
  /// counts as one of extent 1; a run with another extent packs the weights again.
  private func leastRank(_ input: Shape, window: [Int]) -> Int {
    var rank = window.count
    guard input.rank == rank + 2 else { return rank }
    while rank > 1, window[rank - 1] == 1, (input[rank].extent ?? 1) == 1,
      isUnpadded(axis: rank - 1)
    {
      rank -= 1
    }
    return rank
  }

  /// Whether a spatial axis with a window of 1 has no padding.
  private func isUnpadded(axis: Int) -> Bool {
    guard case .explicit(let before, let after) = padding else { return true }
    return before[axis] == 0 && after[axis] == 0
  }

  /// Bytes that packing for the fastest kernel takes beyond those of the constant; 0 if that kernel
  /// reads ordinary panels.
  public func transformByteCount(_ operands: [Operand?], for kernels: KernelSet) -> Int {
    guard let input = try? required(ProductOperand.input, of: operands).type.elementType,
      let weights = try? required(ProductOperand.weights, of: operands),
      let winograd = WinogradKernel.Weights(self, input, weights, kernels: kernels)
    else { return 0 }
    return winograd.packedByteCount - (weights.constant?.byteCount ?? 0)
  }

  public func packedInputs(_ operands: [Operand?]) -> [Int] {
    guard let input = try? required(ProductOperand.input, of: operands).type,
      let weights = try? required(ProductOperand.weights, of: operands),
      let shape = weights.type.shape.extents, shape.count >= 3
    else { return [] }
    if hasGroupScales(operands) { return [ProductOperand.weights] }
    let window = Array(shape.dropFirst().dropLast())
    // A run reads the constant again if its axes are not those that the weights were packed for, or
    // if a tile is too large for a kernel.
    var wide = input.shape
    wide.axes = wide.axes.map { $0.extent == nil ? .fixed(2) : $0 }
    var reach = 4 * (shape[shape.count - 1] * groups + 64)
    for (extent, dilation) in zip(window, dilations) {
      let (span, isLong) = (extent - 1).multipliedReportingOverflow(by: dilation)
      let (product, isLarge) = reach.multipliedReportingOverflow(by: isLong ? .max : span + 1)
      guard !isLong, !isLarge, product <= ConvolutionKernel.largestTileByteCount else { return [] }
      reach = product
    }
    let hasOnePosition = window.allSatisfy { $0 == 1 }
    guard !isTransposed,
      hasOnePosition
        || leastRank(input.shape, window: window) == leastRank(wide, window: window)
    else { return [] }
    return [ProductOperand.weights]
  }

  public func pack(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights? {
    let weights = try required(ProductOperand.weights, of: operands)
    guard let constant = weights.constant, let source = constant.bytes.baseAddress else {
      return nil
    }
    switch try panelsToPack(operands, kernels) {
    case .grouped(let panels): return try panels.packed(source)
    case .panels(let panels):
      if let packed = try winograd(operands, kernels, packing)?.pack(constant) { return packed }
      return try panels.packed(
        source, .channelsFirst,
        consuming: packing.consumedBuffer(ProductOperand.weights, of: operands))
    default: return nil
    }
  }

  public func packedForm(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedForm? {
    guard let panels = try panelsToPack(operands, kernels) else { return nil }
    guard case .panels = panels, let winograd = try winograd(operands, kernels, packing) else {
      return PackedForm(schemes: [panels])
    }
    return PackedForm(schemes: [.winograd(winograd), panels])
  }

  /// nil if no kernel reads the weights in panels, or if they are not known before the run.
  private func panelsToPack(
    _ operands: [Operand?], _ kernels: KernelSet
  ) throws(QMError) -> PackedWeights.Scheme? {
    let weights = try required(ProductOperand.weights, of: operands)
    let input = try required(ProductOperand.input, of: operands).type
    guard let constant = weights.constant, constant.shape.count >= 3 else { return nil }
    if let scales = GroupScales(weights.type.quantization, shape: constant.shape) {
      return groupedPanels(input.elementType, weights, scales, kernels).map(
        PackedWeights.Scheme.grouped)
    }
    let rank = leastRank(input.shape, window: Array(constant.shape.dropFirst().dropLast()))
    return cut(input.elementType, weights, rank: rank, kernels).map { .panels($0.1) }
  }

  /// The transform of the weights, if there is one and it is wanted.
  private func winograd(
    _ operands: [Operand?], _ kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> WinogradKernel.Weights? {
    guard packing.mayTransform else { return nil }
    return try WinogradKernel.Weights(
      self, required(ProductOperand.input, of: operands).type.elementType,
      required(ProductOperand.weights, of: operands), kernels: kernels)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let weights = try required(ProductOperand.weights, of: operands).type
    if let scales = weights.shape.extents.flatMap({
      GroupScales(weights.quantization, shape: $0)
    }) {
      return try groupedKernel(for: operands, scales, packed: packed, kernels: kernels)
    }
    if isTransposed {
      return try TransposedConvolution(self, operands, kernels: kernels)?.kernel(outputs[0])
    }
    return try kernel(operands, packed: packed, kernels, store: nil)
  }

  /// Only from channels last to channels first.
  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet,
    transposing permutation: [Int]
  ) throws(QMError) -> Kernel? {
    let hasResidual =
      operands.count > ProductOperand.residual && operands[ProductOperand.residual] != nil
    guard !isTransposed, !hasResidual, !hasGroupScales(operands),
      let store = ChannelsFirstStore(outputs[0], permutation, kernels: kernels)
    else { return nil }
    return try kernel(operands, packed: packed, kernels, store: store)
  }

  private func hasGroupScales(_ operands: [Operand?]) -> Bool {
    let weights = operands.count > ProductOperand.weights ? operands[ProductOperand.weights] : nil
    if case .weights(_, .perGroup) = weights?.type.quantization { return true }
    return false
  }

  /// The panels of weights with scales per group; nil if only the reference loops can compute this
  /// convolution.
  private func groupedPanels(
    _ input: ElementType, _ weights: Operand, _ scales: GroupScales, _ kernels: KernelSet
  ) -> GroupedPanels? {
    guard order == .channelsLast, !isTransposed, let shape = weights.type.shape.extents,
      let table = ProductTable(
        for: kernels, input: input, weights: weights, depth: scales.size, columns: shape[0] / groups
      )
    else { return nil }
    return GroupedPanels(
      table: table, taps: shape.dropFirst().dropLast().reduce(1, *), scales: scales,
      columns: shape[0] / groups, matrixCount: groups)
  }

  private func groupedKernel(
    for operands: [Operand?], _ scales: GroupScales, packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(ProductOperand.input, of: operands).type
    let weights = try required(ProductOperand.weights, of: operands)
    guard let inputShape = input.shape.extents, let weightsShape = weights.type.shape.extents,
      let panels = groupedPanels(input.elementType, weights, scales, kernels)
    else { return nil }
    let extents = try extents(input: inputShape, weights: weightsShape)
    let windows = ConvolutionWindows(
      axes: extents.axes, channels: extents.inputChannels, groups: groups)
    guard
      packed.map({ $0.scheme == .grouped(panels) }) ?? true,
      let kernel = GroupedProductKernel(
        panels, packed: packed?.buffer, end: KernelEpilogue(epilogue, operands: operands),
        rows: .windows(windows), rowCount: extents.samples * windows.positions,
        rowsPerParameters: windows.positions, kernels: kernels)
    else { return nil }
    return kernel.kernel(name: "convolution")
  }

  private func kernel(
    _ operands: [Operand?], packed: PackedWeights?, _ kernels: KernelSet,
    store: ChannelsFirstStore?
  ) throws(QMError) -> Kernel? {
    let suffix = store == nil ? "" : " to channels first"
    let input = try required(ProductOperand.input, of: operands).type
    let weights = try required(ProductOperand.weights, of: operands)
    guard let inputShape = input.shape.extents, let weightsShape = weights.type.shape.extents
    else { return nil }
    var extents = try extents(input: inputShape, weights: weightsShape)
    let rank = leastRank(input.shape, window: extents.axes.map(\.window))
    guard let (cut, panels) = cut(input.elementType, weights, rank: rank, kernels) else {
      return nil
    }
    let end = KernelEpilogue(epilogue, operands: operands)
    if case .winograd(let winograd) = packed?.scheme, let packed {
      guard
        let kernel = WinogradKernel(
          winograd, packed: packed.buffer, end: end, extents: extents, store: store)
      else { return nil }
      return Kernel(
        name: "convolution \(kernel.name)\(suffix)",
        scratchByteCount: { kernel.scratchByteCount(threads: $0) },
        run: { (memory) throws(QMError) in kernel.run(memory) })
    }
    // If the axes of this run are not those that the weights were packed for, the run packs again.
    var buffer: Buffer?
    if case .panels(let own) = packed?.scheme, own.canBeRead(as: panels) { buffer = packed?.buffer }
    if isPointwise(extents, cut) {
      let plane = extents.axes.map(\.output).reduce(1, *)
      let perSample = end.isDynamic || store != nil
      let kernel = MatrixKernel(
        panels: panels, rightLayout: .channelsFirst, end: end,
        rows: perSample ? plane : extents.samples * plane,
        batches: perSample ? (0..<extents.samples).map { ($0, 0) } : [(0, 0)],
        packed: buffer, parameters: .batch, store: store)
      return Kernel(
        name: "convolution \(panels.table.name)\(suffix)",
        scratchByteCount: { kernel.scratchByteCount(threads: $0) },
        run: { (memory) throws(QMError) in kernel.run(memory) })
    }
    extents = Extents(
      samples: extents.samples, inputChannels: extents.inputChannels,
      outputChannels: extents.outputChannels, axes: Array(extents.axes.prefix(rank)))
    guard
      let kernel = ConvolutionKernel(
        panels: panels, end: end, cut: cut, extents: extents, packed: buffer, store: store)
    else { return nil }
    return Kernel(
      name: "convolution \(panels.table.name)\(suffix)",
      scratchByteCount: { kernel.scratchByteCount(threads: $0) },
      run: { (memory) throws(QMError) in kernel.run(memory) })
  }

  /// Whether the convolution is a matrix product with one row per position.
  private func isPointwise(_ extents: Extents, _ cut: ConvolutionKernel.Cut) -> Bool {
    cut.groups == 1 && !cut.isDepthwise
      && extents.axes.allSatisfy { axis in
        axis.window == 1 && axis.stride == 1 && axis.before == 0 && axis.after == 0
      }
  }
}

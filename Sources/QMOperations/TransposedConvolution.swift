import QMTensor

/// A transposed convolution with channels last, as several ordinary convolutions, one per phase.
/// The phase of an output position is its remainder by the spacing. All positions of a phase use
/// the same taps and read consecutive elements of the input. Taps keep their order, so the bits are
/// those of the reference loops.
struct TransposedConvolution {
  /// One axis of one phase.
  private struct AxisPhase {
    /// The first output position of the phase.
    let first: Int
    /// Number of output positions of the phase, which are one spacing apart.
    let count: Int
    /// The taps that read elements, ascending.
    let taps: [Int]
    let dilation: Int
    let before: Int
    let after: Int
    /// Positions of the ordinary convolution before the first that is needed.
    let skipped: Int
    /// Number of positions of the ordinary convolution.
    let computed: Int

    /// - Returns: nil if no tap reads an element.
    init?(
      first: Int, spacing: Int, window: WindowAxis, extent: Int
    ) {
      func offset(_ tap: Int) -> Int { first + tap * window.dilation - window.before }
      let taps = (0..<window.window).filter { offset($0) % spacing == 0 }
      guard let head = taps.first, let last = taps.last else { return nil }
      let start = offset(head) / spacing
      let reach = offset(last) / spacing - start + 1
      self.first = first
      self.taps = taps
      count = first < window.output ? (window.output - first - 1) / spacing + 1 : 0
      dilation = taps.count > 1 ? offset(taps[1]) / spacing - start : 1
      before = max(0, -start)
      skipped = max(0, start)
      after = max(0, skipped + count - 1 + reach - extent - before)
      computed = extent + before + after - reach + 1
    }
  }

  private struct Phase: Sendable {
    let kernel: Kernel
    let computedByteCount: Int
    let store: StridedCopy
    /// Copies the residual's elements of the phase.
    let loadResidual: StridedCopy
    /// Kept alive, because the kernel reads it.
    let packed: PackedWeights?
  }

  private let phases: [Phase]
  private let hasResidual: Bool
  private let set: KernelSet

  /// - Returns: nil if only the reference loops can compute this convolution.
  init?(
    _ convolution: Convolution, _ operands: [Operand?], kernels: KernelSet
  ) throws(QMError) {
    func operand(_ index: Int) -> Operand? { index < operands.count ? operands[index] : nil }
    guard convolution.order == .channelsLast, kernels.number != nil,
      let input = operand(ProductOperand.input)?.type,
      let weights = operand(ProductOperand.weights),
      let constant = weights.constant, let inputShape = input.shape.extents
    else { return nil }
    let extents = try convolution.extents(input: inputShape, weights: constant.shape)
    let spatial = Array(inputShape[1..<(inputShape.count - 1)])
    let residual = operand(ProductOperand.residual)?.type
    var phases: [Phase] = []
    var combinations: [[AxisPhase]] = [[]]
    for (axis, window) in extents.axes.enumerated() {
      var own: [AxisPhase] = []
      for first in 0..<convolution.spacing[axis] {
        guard
          let phase = AxisPhase(
            first: first, spacing: convolution.spacing[axis], window: window,
            extent: spatial[axis])
        else { return nil }
        if phase.count > 0 { own.append(phase) }
      }
      guard combinations.count * own.count <= Self.largestPhaseCount else { return nil }
      combinations = combinations.flatMap { known in own.map { known + [$0] } }
    }
    for axes in combinations {
      guard
        let phase = try Self.phase(
          axes, of: convolution, operands, constant, extents: extents, residual: residual,
          kernels: kernels)
      else { return nil }
      phases.append(phase)
    }
    self.phases = phases
    hasResidual = residual != nil
    set = kernels
  }

  /// With more phases, the reference loops compute the convolution.
  private static let largestPhaseCount = 64

  private static func phase(
    _ axes: [AxisPhase], of convolution: Convolution, _ operands: [Operand?], _ constant: Tensor,
    extents: Convolution.Extents, residual: ValueType?, kernels: KernelSet
  ) throws(QMError) -> Phase? {
    var ordinary = convolution
    ordinary.spacing = axes.map { _ in 1 }
    ordinary.dilations = axes.map(\.dilation)
    ordinary.padding = .explicit(before: axes.map(\.before), after: axes.map(\.after))
    let weights = try picked(constant, axes.map(\.taps))
    var own = operands
    var weightsType = operands[ProductOperand.weights]!.type
    weightsType.shape = Shape(weights.shape)
    own[ProductOperand.weights] = Operand(weightsType, constant: weights)
    let channels = extents.outputChannels
    let computed = [extents.samples] + axes.map(\.computed) + [channels]
    // With distant taps, an ordinary convolution would compute too many unused positions, which the
    // reference loops skip.
    guard let count = Shape.elementCount(of: computed), count <= 1 << 32 else { return nil }
    if var type = residual {
      type.shape = Shape(computed)
      own[ProductOperand.residual] = Operand(type)
    }
    let output = try ordinary.outputTypes(for: own)[0]
    let packed = try ordinary.pack(own, for: kernels, .fastest)
    guard output.shape.extents == computed,
      let kernel = try ordinary.kernel(
        for: own, outputs: [output], packed: packed, kernels: kernels)
    else { return nil }

    let outputShape = [extents.samples] + extents.axes.map(\.output) + [channels]
    let kept = [extents.samples] + axes.map(\.count) + [channels]
    func copy(_ size: Int, intoOutput: Bool) -> StridedCopy {
      var whole = StridedCopy.strides(of: outputShape, elementByteCount: size)
      let part = StridedCopy.strides(of: computed, elementByteCount: size)
      var wholeOffset = 0
      var partOffset = 0
      for (axis, phase) in axes.enumerated() {
        wholeOffset += phase.first * whole[axis + 1]
        partOffset += phase.skipped * part[axis + 1]
        whole[axis + 1] *= convolution.spacing[axis]
      }
      return StridedCopy(
        elementByteCount: size, extents: kept, outStrides: intoOutput ? whole : part,
        inStrides: intoOutput ? part : whole, outOffset: intoOutput ? wholeOffset : partOffset,
        inOffset: intoOutput ? partOffset : wholeOffset)
    }
    let size = output.elementType.byteCount
    return Phase(
      kernel: kernel,
      computedByteCount: computed.reduce(max(size, residual?.elementType.byteCount ?? 0), *),
      store: copy(size, intoOutput: true),
      loadResidual: copy(residual?.elementType.byteCount ?? 1, intoOutput: false), packed: packed)
  }

  /// The weights `[O, k…, C/groups]` at these taps of each axis.
  private static func picked(_ weights: Tensor, _ taps: [[Int]]) throws(QMError) -> Tensor {
    let shape = [weights.shape[0]] + taps.map(\.count) + [weights.shape[weights.shape.count - 1]]
    let result = try Tensor(zeros: weights.elementType, shape)
    let rowByteCount = shape[shape.count - 1] * weights.elementType.byteCount
    let source = weights.bytes.baseAddress!
    var row = 0
    try forEachIndex(of: Array(shape.dropLast())) { (index) throws(QMError) in
      var place = index[0]
      for (axis, own) in taps.enumerated() {
        place = place * weights.shape[axis + 1] + own[index[axis + 1]]
      }
      (result.buffer.base + row * rowByteCount).copyMemory(
        from: source + place * rowByteCount, byteCount: rowByteCount)
      row += 1
    }
    return result
  }

  /// A kernel that runs the phases one after the other.
  func kernel(_ output: ValueType) throws(QMError) -> Kernel? {
    guard let set = set.number else { return nil }
    let (phases, hasResidual) = (phases, hasResidual)
    func aligned(_ count: Int) -> Int {
      (count + Buffer.alignment - 1) / Buffer.alignment * Buffer.alignment
    }
    let place = aligned(phases.map(\.computedByteCount).max() ?? 0)
    return Kernel(
      name: "transposed \(phases.first?.kernel.name ?? "")",
      scratchByteCount: { threads in
        place * (hasResidual ? 2 : 1)
          + (phases.map { $0.kernel.scratchByteCount(threads) }.max() ?? 0)
      },
      run: { (memory) throws(QMError) in
        let result = memory.scratch
        let residual = memory.scratch + place
        let scratch = memory.scratch + place * (hasResidual ? 2 : 1)
        let count = memory.inputs.count
        // The inputs, then the output.
        try withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: count + 1) {
          (places) throws(QMError) in
          _ = places.initialize(from: memory.inputs)
          places.initializeElement(at: count, to: result)
          for phase in phases {
            if hasResidual, let source = memory.inputs[ProductOperand.residual] {
              phase.loadResidual.run(from: source, to: residual, set, memory.threads)
              places[ProductOperand.residual] = residual
            }
            try phase.kernel.run(
              Kernel.Memory(
                inputs: UnsafeBufferPointer(rebasing: places[..<count]),
                outputs: UnsafeBufferPointer(rebasing: places[count...]), scratch: scratch,
                threads: memory.threads))
            phase.store.run(from: result, to: memory.outputs[0]!, set, memory.threads)
          }
        }
      })
  }
}

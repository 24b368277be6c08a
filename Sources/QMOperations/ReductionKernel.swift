import CQMKernels
import QMTensor

extension Reduction {
  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    // Integers are mostly shapes, with few elements: the reference loops are fast enough.
    guard let set = kernels.number, input.elementType != .int32, input.elementType != .int64
    else { return nil }
    return try ReductionKernel(self, input, outputs[0], set).kernel(
      name: "\(Self.name) \(kind) \(kernels)")
  }
}

/// The fast kernels of a reduction.
private struct ReductionKernel: Sendable {
  /// The input as `[outer, count, inner]`, where `count` elements are reduced.
  private struct Arrangement: Sendable {
    var outer = 1
    var count = 1
    var inner = 1
    /// Copies the input into this order; nil if the input is in this order.
    var copy: StridedCopy?

    /// - Parameter needsRows: whether `inner` must be 1.
    init(_ shape: [Int], _ axes: [Int], elementByteCount: Int, needsRows: Bool) {
      let reduced = axes.filter { shape[$0] != 1 }
      let kept = shape.indices.filter { !axes.contains($0) }
      count = axes.reduce(1) { $0 &* shape[$1] }
      guard let first = reduced.first, let last = reduced.last else {
        outer = kept.reduce(1) { $0 &* shape[$1] }
        return
      }
      outer = kept.filter { $0 < first }.reduce(1) { $0 &* shape[$1] }
      inner = kept.filter { $0 > last }.reduce(1) { $0 &* shape[$1] }
      let between = kept.contains { $0 > first && $0 < last && shape[$0] != 1 }
      if between || (needsRows && inner != 1) {
        outer = kept.reduce(1) { $0 &* shape[$1] }
        inner = 1
        copy = .transposing(shape, kept + axes, elementByteCount: elementByteCount)
      }
    }

    var itemCount: Int {
      let block = Int(QM_REDUCTION_BLOCK)
      return inner == 1 ? outer : outer * ((inner + block - 1) / block)
    }

    /// Elements that an item reads.
    var itemElementCount: Int { count * min(inner, Int(QM_REDUCTION_BLOCK)) }
  }

  private let kind: Reduction.Kind
  private let set: qm_kernel_set
  private let input: ValueType
  private let output: ValueType
  private let elementCount: Int
  private let outputShape: [Int]
  private let arrangement: Arrangement
  private let family: qm_reduction_kernels

  init(
    _ reduction: Reduction, _ input: ValueType, _ output: ValueType, _ set: qm_kernel_set
  ) throws(QMError) {
    kind = reduction.kind
    self.set = set
    self.input = input
    self.output = output
    let shape = try input.concreteShape()
    elementCount = shape.reduce(1, &*)
    outputShape = try output.concreteShape()
    arrangement = Arrangement(
      shape, reduction.axes, elementByteCount: input.elementType.byteCount,
      needsRows: reduction.kind == .logarithmOfSumOfExponentials)
    family = qm_reduction_for(set)
  }

  private var outputCount: Int { outputShape.reduce(1, &*) }
  private var elementType: Int32 { Int32(input.elementType.rawValue) }
  private var kindNumber: Int32 { Int32(kind.rawValue) }

  func kernel(name: String) -> Kernel {
    guard outputCount > 0 else { return Kernel(name: name) { (_) throws(QMError) in } }
    if case .fixed(let scale, let zeroPoint) = input.quantization {
      switch kind {
      case .maximum, .minimum: return extremeOfCodes(name)
      case .sum, .mean: return sumOfCodes(name, scale: scale, zeroPoint: zeroPoint)
      default: break
      }
    }
    return floats(name)
  }

  /// Reserves scratch memory for the arranged input; nil if the input is read in place.
  private func reserveArranged(_ scratch: inout ScratchLayout) -> Int? {
    arrangement.copy.map { scratch.reserve($0.isEmpty ? 0 : $0.byteCount) }
  }

  private func arrange(_ memory: Kernel.Memory, at offset: Int?) -> UnsafeMutableRawPointer {
    guard let copy = arrangement.copy, let offset else { return memory.inputs[0]! }
    copy.run(from: memory.inputs[0]!, to: memory.scratch + offset, set, memory.threads)
    return memory.scratch + offset
  }

  private func forEachItem(
    _ memory: Kernel.Memory, elementByteCount: Int, _ body: (Range<Int>, _ thread: Int) -> Void
  ) {
    memory.threads.run(
      forRangesOf: arrangement.itemCount,
      byteCount: arrangement.itemElementCount * elementByteCount, body)
  }

  /// The largest or smallest codes, which represent the largest or smallest numbers.
  private func extremeOfCodes(_ name: String) -> Kernel {
    var scratch = ScratchLayout()
    let arranged = reserveArranged(&scratch)
    let byteCount = scratch.byteCount
    let extreme = family.extreme_codes!
    let (elementType, kindNumber) = (elementType, kindNumber)
    return Kernel(name: name, scratchByteCount: { _ in byteCount }) { (memory) throws(QMError) in
      let source = arrange(memory, at: arranged)
      let target = memory.outputs[0]!
      forEachItem(memory, elementByteCount: input.elementType.byteCount) { items, _ in
        extreme(
          elementType, kindNumber, source, target, arrangement.count, arrangement.inner,
          items.lowerBound, items.upperBound)
      }
    }
  }

  /// Exact sums of codes, rounded once.
  private func sumOfCodes(_ name: String, scale: Float, zeroPoint: Int32) -> Kernel {
    var scratch = ScratchLayout()
    let arranged = reserveArranged(&scratch)
    let sums = scratch.reserve(outputCount * MemoryLayout<Int64>.size)
    let byteCount = scratch.byteCount
    let sum = family.sum_codes!
    let elementType = elementType
    return Kernel(name: name, scratchByteCount: { _ in byteCount }) { (memory) throws(QMError) in
      let source = arrange(memory, at: arranged)
      let results = (memory.scratch + sums).assumingMemoryBound(to: Int64.self)
      let count = arrangement.count
      forEachItem(memory, elementByteCount: input.elementType.byteCount) { items, _ in
        sum(
          elementType, source, results, count, arrangement.inner, items.lowerBound,
          items.upperBound)
      }
      let view = TensorView(
        output.elementType, outputShape, output.quantization, base: memory.outputs[0]!)
      for index in 0..<outputCount {
        let exact = Int(results[index]) - count * Int(zeroPoint)
        let number = Reduction.number(sum: exact, count: count, scale: scale, kind)
        view.store(canonical(number), at: index)
      }
    }
  }

  /// Reduces in float32 by the tree of lanes. Codes are decoded before, and results encoded after.
  private func floats(_ name: String) -> Kernel {
    let isCoded = input.quantization != .none
    let isEncoded = output.elementType != .float32
    var scratch = ScratchLayout()
    let arranged = reserveArranged(&scratch)
    let decoded = scratch.reserve(isCoded ? elementCount * 4 : 0)
    let results = scratch.reserve(isEncoded ? outputCount * 4 : 0)
    let rowByteCount =
      kind == .logarithmOfSumOfExponentials ? ScratchLayout.rounded(arrangement.count * 4) : 0
    let rows = scratch.byteCount
    let reduce = family.reduce!
    let encode = qm_quantize_for(set).encode!
    let kindNumber = kindNumber
    let (outCodes, inverseScale) = (output.codes, output.inverseScale)
    return Kernel(name: name, scratchByteCount: { rows + $0 * rowByteCount }) {
      (memory) throws(QMError) in
      let given = arrange(memory, at: arranged)
      let floats =
        isCoded
        ? decode(given, into: memory.scratch + decoded, memory.threads)
        : UnsafePointer(given.assumingMemoryBound(to: Float.self))
      let result = memory.outputs[0]!
      let target = (isEncoded ? memory.scratch + results : result)
        .assumingMemoryBound(to: Float.self)
      forEachItem(memory, elementByteCount: 4) { items, thread in
        let row = (memory.scratch + rows + thread * rowByteCount)
          .assumingMemoryBound(to: Float.self)
        reduce(
          kindNumber, floats, target, arrangement.count, arrangement.inner, items.lowerBound,
          items.upperBound, row)
      }
      if isEncoded { encode(outCodes, inverseScale, target, result, Int64(outputCount)) }
    }
  }

  private func decode(
    _ codes: UnsafeRawPointer, into target: UnsafeMutableRawPointer, _ threads: ThreadPool
  ) -> UnsafePointer<Float> {
    let floats = target.assumingMemoryBound(to: Float.self)
    let decode = qm_quantize_for(set).decode!
    let size = input.elementType.byteCount
    let type = input.codes
    threads.run(forRangesOf: elementCount, byteCount: size) { range, _ in
      decode(type, codes + range.lowerBound * size, floats + range.lowerBound, Int64(range.count))
    }
    return UnsafePointer(floats)
  }
}

import QMTensor

/// Inputs: data; `[2·k]` elements to add before (first half) and after (negative: to crop); the
/// constant (optional scalar, 0 without; `constant` only); `[k]` axes (optional). Elements to add
/// and axes are int32 or int64.
/// On codes the constant is a real number, float32, rounded to the input's grid.
///
/// An axis is cropped first; what is left is then repeated: `reflect` mirrors it without repeating
/// its outermost element, `edge` repeats that element, `wrap` goes round.
public struct Pad: FirstOperandMovement {
  public static let name = "Pad"
  public enum Mode: UInt8, Hashable, Sendable, CaseIterable {
    case constant = 0
    case reflect = 1
    case edge = 2
    case wrap = 3
  }
  public var mode: Mode
  public init(_ mode: Mode) { self.mode = mode }

  public static let placeholder = Pad(.constant)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("mode", &mode)
  }

  /// What happens to one axis.
  struct Amount: Hashable {
    var before: Int
    var after: Int

    /// Extent of the output.
    /// - Throws: `malformed` if more is cropped than there is, or if the mode cannot make the
    ///   elements that are added.
    func extent(of extent: Int, mode: Mode) throws(QMError) -> Int {
      let limit = ValueLimits.byteCount
      guard (-limit...limit).contains(before), (-limit...limit).contains(after) else {
        throw .malformed("\(before) and \(after) elements added to an axis")
      }
      let kept = extent + min(before, 0) + min(after, 0)
      guard kept >= 0 else {
        throw .malformed("\(before) and \(after) elements cropped from an axis of \(extent)")
      }
      let added = max(before, after, 0)
      let possible: Bool
      switch mode {
      case .constant: possible = true
      case .reflect: possible = added == 0 || added < kept
      case .edge, .wrap: possible = added == 0 || kept > 0
      }
      guard possible else {
        throw .malformed("\(mode) cannot add \(before) and \(after) elements to an axis of \(kept)")
      }
      return kept + max(before, 0) + max(after, 0)
    }

    /// Where the output's index `position` reads an axis of `extent` elements; nil: the constant.
    /// The amount must have passed ``extent(of:mode:)``.
    func source(of position: Int, extent: Int, mode: Mode) -> Int? {
      let first = max(-before, 0)
      let kept = extent - first - max(-after, 0)
      let index = position - max(before, 0)
      if (0..<kept).contains(index) { return first + index }
      switch mode {
      case .constant: return nil
      case .reflect: return first + (index < 0 ? -index : 2 * (kept - 1) - index)
      case .edge: return first + (index < 0 ? 0 : kept - 1)
      case .wrap: return first + ((index % kept) + kept) % kept
      }
    }
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...4, operands)
    var type = try movable(0, of: operands)
    try checkConstant(optional(2, of: operands)?.type, data: type)
    let pads = try integers(1, of: operands, "pads")
    let axes = try optional(3, of: operands) == nil ? nil : integers(3, of: operands, "axes")
    guard let values = pads.values, axes == nil || axes?.values != nil else {
      type.shape = .unknown(rank: type.shape.rank)
      return [type]
    }
    for (axis, amount) in try Self.amounts(values, axes: axes?.values, rank: type.shape.rank) {
      if let extent = type.shape[axis].extent {
        type.shape[axis] = .fixed(try amount.extent(of: extent, mode: mode))
      } else if amount != Amount(before: 0, after: 0) {
        type.shape[axis] = .free("")
      }
    }
    return [try type.checked()]
  }

  /// The amount of each padded axis.
  static func amounts(
    _ pads: [Int], axes: [Int]?, rank: Int
  ) throws(QMError) -> [(axis: Int, amount: Amount)] {
    let places =
      try axes.map { (axes) throws(QMError) in try Slice.places(axes, rank: rank) }
      ?? Array(0..<rank)
    guard pads.count == 2 * places.count else {
      throw .malformed("\(pads.count) pads for \(places.count) axes; each has two")
    }
    return places.enumerated().map { position, axis in
      (axis, Amount(before: pads[position], after: pads[position + places.count]))
    }
  }

  private func checkConstant(_ constant: ValueType?, data: ValueType) throws(QMError) {
    guard let constant else { return }
    let expected: ElementType
    if case .fixed = data.quantization { expected = .float32 } else { expected = data.elementType }
    guard constant.elementType == expected, constant.quantization == .none,
      Shape.product(of: constant.shape.axes).extent ?? 1 == 1
    else { throw .malformed("\(data) padded with \(constant); expected one \(expected)") }
  }

  /// The amount of every axis of an input of these extents.
  private func allAmounts(
    _ pads: [Int], axes: [Int]?, extents: [Int]
  ) throws(QMError) -> [Amount] {
    var all = extents.map { _ in Amount(before: 0, after: 0) }
    for (axis, amount) in try Self.amounts(pads, axes: axes, rank: extents.count) {
      all[axis] = amount
    }
    return all
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0]
    func optional(_ index: Int) -> TensorView? { index < inputs.count ? inputs[index] : nil }
    let amounts = try allAmounts(
      inputs[1]!.integers(), axes: optional(3)?.integers(), extents: input.shape)
    var extents: [Int] = []
    for (axis, amount) in amounts.enumerated() {
      extents.append(try amount.extent(of: input.shape[axis], mode: mode))
    }
    try expectExtents(extents, of: output)
    let filling = Self.fillingElement(output, optional(2)?.base)
    try forEachIndex(of: output.shape) { (index) throws(QMError) in
      var place: [Int] = []
      for (axis, amount) in amounts.enumerated() {
        guard let source = amount.source(of: index[axis], extent: input.shape[axis], mode: mode)
        else { break }
        place.append(source)
      }
      if place.count == index.count {
        output.copyElement(at: index, from: input, at: place)
      } else {
        let offset = output.byteOffset(at: index)
        for (byte, value) in filling.enumerated() {
          output.base.storeBytes(of: value, toByteOffset: offset + byte, as: UInt8.self)
        }
      }
    }
  }

  /// The bytes of the element that a `constant` padding repeats.
  private static func fillingElement(
    _ output: TensorView, _ constant: UnsafeMutableRawPointer?
  ) -> [UInt8] {
    let size = output.elementType.byteCount
    guard case .fixed = output.quantization else {
      guard let constant else { return Array(repeating: 0, count: size) }
      return Array(UnsafeRawBufferPointer(start: constant, count: size))
    }
    return withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { bytes in
      let element = TensorView(
        output.elementType, [], output.quantization, base: bytes.baseAddress!)
      element.store(constant?.loadUnaligned(as: Float.self) ?? 0, at: 0)
      return Array(bytes)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let input = try required(0, of: operands).type
    let axes = try optional(3, of: operands) == nil ? nil : integers(3, of: operands, "axes")
    // Where an amount is computed by the run, the reference loops read it.
    guard let pads = try integers(1, of: operands, "pads").values,
      axes == nil || axes?.values != nil
    else { return nil }
    let inExtents = try input.concreteExtents()
    let outExtents = try outputs[0].concreteExtents()
    let amounts = try allAmounts(pads, axes: axes?.values, extents: inExtents)
    // One copy for each element that is added.
    let added = amounts.reduce(0) { $0 + max($1.before, 0) + max($1.after, 0) }
    guard mode == .constant || added <= 1 << 16 else { return nil }
    let steps = steps(amounts, inExtents: inExtents, outExtents: outExtents, outputs[0].elementType)

    guard mode == .constant else { return .moving(Self.name, kernels, steps) }
    let type = outputs[0]
    let zeros = outExtents.map { _ in 0 }
    let fill = StridedCopy(
      elementByteCount: type.elementType.byteCount, extents: outExtents,
      outStrides: StridedCopy.strides(
        of: outExtents, elementByteCount: type.elementType.byteCount),
      inStrides: zeros)
    return Kernel(name: "\(Self.name) \(kernels.rawValue)") { (memory) throws(QMError) in
      let output = memory.outputs[0]!
      let view = TensorView(type.elementType, outExtents, type.quantization, base: output)
      let constant = memory.inputs.count > 2 ? memory.inputs[2] : nil
      Self.fillingElement(view, constant).withUnsafeBytes { element in
        fill.run(from: element.baseAddress!, to: output, set, memory.threads)
      }
      for step in steps {
        step.copy.run(from: memory.inputs[0]!, to: output, set, memory.threads)
      }
    }
  }

  /// The elements of the input to their place; then, axis by axis from the last, each added index
  /// from the index of the output that it repeats.
  private func steps(
    _ amounts: [Amount], inExtents: [Int], outExtents: [Int], _ elementType: ElementType
  ) -> [(source: Kernel.MoveSource, copy: StridedCopy)] {
    let size = elementType.byteCount
    let inStrides = StridedCopy.strides(of: inExtents, elementByteCount: size)
    let outStrides = StridedCopy.strides(of: outExtents, elementByteCount: size)
    var extents = zip(inExtents, amounts).map { $0 + min($1.before, 0) + min($1.after, 0) }
    // Offset of the part of the output that is complete.
    var start = zip(amounts, outStrides).reduce(0) { $0 &+ max($1.0.before, 0) &* $1.1 }
    let interior = StridedCopy(
      elementByteCount: size, extents: extents, outStrides: outStrides, inStrides: inStrides,
      outOffset: start,
      inOffset: zip(amounts, inStrides).reduce(0) { $0 &+ max(-$1.0.before, 0) &* $1.1 })
    var steps: [(source: Kernel.MoveSource, copy: StridedCopy)] = []
    if !interior.isEmpty { steps.append((.input(0), interior)) }
    guard mode != .constant, !outExtents.contains(0) else { return steps }
    for axis in amounts.indices.reversed() {
      let amount = amounts[axis]
      let before = max(amount.before, 0)
      let kept = extents[axis]
      start -= before * outStrides[axis]
      extents[axis] = 1
      for position in 0..<outExtents[axis] where position < before || position >= before + kept {
        let source =
          amount.source(of: position, extent: inExtents[axis], mode: mode)!
          - max(-amount.before, 0) + before
        steps.append(
          (
            .output,
            StridedCopy(
              elementByteCount: size, extents: extents, outStrides: outStrides,
              inStrides: outStrides, outOffset: start + position * outStrides[axis],
              inOffset: start + source * outStrides[axis])
          ))
      }
      extents[axis] = outExtents[axis]
    }
    return steps
  }
}

extension Pad {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard optional(3, of: operands) == nil, let amounts = Self.integers(operands, 1),
      amounts.count == 2 * order.rank
    else { return nil }
    let places = order.sources + order.sources.map { order.rank + $0 }
    return ReorderedForm(
      .pad(self), [.reordered, .replaced(places.map { amounts[$0] })], of: operands)
  }
}

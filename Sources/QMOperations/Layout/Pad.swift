import QMTensor

/// Adds elements to the ends of axes, or crops them.
///
/// Inputs: data; pads, int32 or int64 `[2·k]`: the number of elements to add before each axis, then
/// after each (negative numbers crop); the constant (optional scalar, 0 if absent; mode `constant`
/// only); axes, int32 or int64 `[k]` (optional).
/// For codes the constant is a float32 number, which is quantized like the data.
///
/// An axis is cropped first. The added elements then repeat the rest: `reflect` mirrors it without
/// repeating the outermost element, `edge` repeats the outermost element, `wrap` continues from the
/// other end.
public struct Pad: FirstOperandMovement {
  public static let name = "Pad"
  /// What the added elements are. Raw values are written in files.
  public enum Mode: UInt8, Hashable, Sendable, CaseIterable {
    case constant = 0
    case reflect = 1
    case edge = 2
    case wrap = 3
  }
  /// What the added elements are.
  public var mode: Mode
  /// - Parameter mode: what the added elements are.
  public init(_ mode: Mode) { self.mode = mode }

  public static let placeholder = Pad(.constant)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("mode", &mode)
  }

  /// The elements added to one axis; negative numbers crop.
  struct Amount: Hashable {
    var before: Int
    var after: Int

    /// Extent of the output axis.
    /// - Throws: `malformed` if more elements are cropped than exist, or if the mode cannot provide
    ///   the added elements.
    func extent(of extent: Int, mode: Mode) throws(QMError) -> Int {
      let limit = ValueLimits.byteCount
      guard (-limit...limit).contains(before), (-limit...limit).contains(after) else {
        throw .malformed("pads must be within ±\(limit), found \(before) and \(after)")
      }
      let kept = extent + min(before, 0) + min(after, 0)
      guard kept >= 0 else {
        throw .malformed("pads \(before) and \(after) crop more than an axis of \(extent) elements")
      }
      let added = max(before, after, 0)
      let possible: Bool
      switch mode {
      case .constant: possible = true
      case .reflect: possible = added == 0 || added < kept
      case .edge, .wrap: possible = added == 0 || kept > 0
      }
      guard possible else {
        throw .malformed(
          "\(mode) cannot add \(before) and \(after) elements to an axis of \(kept) elements")
      }
      return kept + max(before, 0) + max(after, 0)
    }

    /// The index in the input's axis of `extent` elements that the output's index `position` reads;
    /// nil for the constant. The amount must have passed ``extent(of:mode:)``.
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
      throw .malformed("\(places.count) axes need two pads each, found \(pads.count) pads")
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
    else {
      throw .malformed("\(Self.name) of \(data) needs one \(expected) constant, found \(constant)")
    }
  }

  /// The amount of every axis of an input of this rank.
  private func allAmounts(
    _ pads: [Int], axes: [Int]?, rank: Int
  ) throws(QMError) -> [Amount] {
    var all = Array(repeating: Amount(before: 0, after: 0), count: rank)
    for (axis, amount) in try Self.amounts(pads, axes: axes, rank: rank) {
      all[axis] = amount
    }
    return all
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0]
    func optional(_ index: Int) -> TensorView? { index < inputs.count ? inputs[index] : nil }
    let amounts = try allAmounts(
      inputs[1]!.integers(), axes: optional(3)?.integers(), rank: input.shape.count)
    var shape: [Int] = []
    for (axis, amount) in amounts.enumerated() {
      shape.append(try amount.extent(of: input.shape[axis], mode: mode))
    }
    try expectShape(shape, of: output)
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

  /// The bytes of the element that the mode `constant` adds.
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
    // The reference loops read amounts that are computed during the run.
    guard let pads = try integers(1, of: operands, "pads").values,
      axes == nil || axes?.values != nil
    else { return nil }
    let inShape = try input.concreteShape()
    let outShape = try outputs[0].concreteShape()
    let amounts = try allAmounts(pads, axes: axes?.values, rank: inShape.count)
    // Other modes make one copy for each added index.
    let added = amounts.reduce(0) { $0 + max($1.before, 0) + max($1.after, 0) }
    guard mode == .constant || added <= 1 << 16 else { return nil }
    let steps = steps(amounts, inShape: inShape, outShape: outShape, outputs[0].elementType)

    guard mode == .constant else { return .moving(Self.name, kernels, steps) }
    let type = outputs[0]
    let zeros = outShape.map { _ in 0 }
    let fill = StridedCopy(
      elementByteCount: type.elementType.byteCount, extents: outShape,
      outStrides: StridedCopy.strides(
        of: outShape, elementByteCount: type.elementType.byteCount),
      inStrides: zeros)
    return Kernel(name: "\(Self.name) \(kernels.rawValue)") { (memory) throws(QMError) in
      let output = memory.outputs[0]!
      let view = TensorView(type.elementType, outShape, type.quantization, base: output)
      let constant = memory.inputs.count > 2 ? memory.inputs[2] : nil
      Self.fillingElement(view, constant).withUnsafeBytes { element in
        fill.run(from: element.baseAddress!, to: output, set, memory.threads)
      }
      for step in steps {
        step.copy.run(from: memory.inputs[0]!, to: output, set, memory.threads)
      }
    }
  }

  /// First copies the input into the output; then, axis by axis from the last, copies each added
  /// index from the index of the output that it repeats.
  private func steps(
    _ amounts: [Amount], inShape: [Int], outShape: [Int], _ elementType: ElementType
  ) -> [(source: Kernel.MoveSource, copy: StridedCopy)] {
    let size = elementType.byteCount
    let inStrides = StridedCopy.strides(of: inShape, elementByteCount: size)
    let outStrides = StridedCopy.strides(of: outShape, elementByteCount: size)
    var extents = zip(inShape, amounts).map { $0 + min($1.before, 0) + min($1.after, 0) }
    // Offset of the finished part of the output.
    var start = zip(amounts, outStrides).reduce(0) { $0 &+ max($1.0.before, 0) &* $1.1 }
    let interior = StridedCopy(
      elementByteCount: size, extents: extents, outStrides: outStrides, inStrides: inStrides,
      outOffset: start,
      inOffset: zip(amounts, inStrides).reduce(0) { $0 &+ max(-$1.0.before, 0) &* $1.1 })
    var steps: [(source: Kernel.MoveSource, copy: StridedCopy)] = []
    if !interior.isEmpty { steps.append((.input(0), interior)) }
    guard mode != .constant, !outShape.contains(0) else { return steps }
    for axis in amounts.indices.reversed() {
      let amount = amounts[axis]
      let before = max(amount.before, 0)
      let kept = extents[axis]
      start -= before * outStrides[axis]
      extents[axis] = 1
      for position in 0..<outShape[axis] where position < before || position >= before + kept {
        let source =
          amount.source(of: position, extent: inShape[axis], mode: mode)!
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
      extents[axis] = outShape[axis]
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

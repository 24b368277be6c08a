import CQMKernels
import QMTensor

/// Order of the last two axes of the right operand. Raw values are written in files.
public enum RightLayout: UInt8, Hashable, Sendable, CaseIterable {
  /// `[…, K, N]`, as in ONNX's MatMul.
  case depthFirst = 0
  /// `[…, N, K]`: one row per output channel, as weights are stored.
  case channelsFirst = 1
}

/// Matrix product `[…, M, K] × […, K, N] → […, M, N]`; leading axes are broadcast.
/// Operands have rank 2 or more. Input positions: ``ProductOperand``.
public struct MatrixMultiply: ProductOperation {
  public static let name = "MatrixMultiply"

  /// Order of the last two axes of the right operand.
  public var rightLayout: RightLayout
  /// The steps from an accumulator to the stored element.
  public var epilogue: Epilogue

  /// Without functions, and with float32 output, unless stated otherwise.
  public init(rightLayout: RightLayout, epilogue: Epilogue = Epilogue()) {
    self.rightLayout = rightLayout
    self.epilogue = epilogue
  }

  public static let placeholder = MatrixMultiply(rightLayout: .depthFirst)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("right layout", &rightLayout)
    try epilogue.visitAttributes(&visitor)
  }
}

extension MatrixMultiply {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    ProductOperand.integerForm(of: operands, weights: weightOperands(of: operands)) { output in
      var result = self
      result.epilogue.output = output
      return .matrixMultiply(result)
    }
  }
  public var accumulators: Accumulators {
    .products([
      ProductOperand.integerSum(
        rightLayout == .depthFirst ? .depthThenChannel : .channelThenDepth)
    ])
  }
  /// The right operand, if it has two axes and its rows are output channels.
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] {
    guard rightLayout == .channelsFirst,
      let right = optional(ProductOperand.weights, of: operands), right.type.shape.rank == 2
    else { return [] }
    return [WeightOperand(ProductOperand.weights, groupAxis: 1)]
  }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? {
    guard let left = inputs.first ?? nil, let depth = left.last else { return nil }
    return Shape.elementCount(of: output + [depth])
  }
  public var prefersChannelsLast: Bool { false }
  public var analyticRange: ClosedRange<Float>? { epilogue.functions.last?.analyticRange }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

extension MatrixMultiply {
  /// The extents of one product, by name.
  struct Extents {
    let rows: Int
    let depth: Int
    let columns: Int
    /// For each matrix of the output, the matrices of the left and right operand.
    let batches: [(left: Int, right: Int)]
    let rightBatchCount: Int
  }

  private var rightDepthOffset: Int { rightLayout == .depthFirst ? 2 : 1 }
  private var rightColumnOffset: Int { rightLayout == .depthFirst ? 1 : 2 }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let left = try required(ProductOperand.input, of: operands).type.shape
    let right = try required(ProductOperand.weights, of: operands).type.shape
    guard left.rank >= 2, right.rank >= 2 else {
      throw .malformed(
        "a matrix product needs operands of rank 2 or more, found \(left) × \(right)")
    }
    for extent in (left.axes + right.axes).compactMap(\.extent) {
      guard extent <= Window.largest else {
        throw .malformed(
          "a matrix product needs extents of at most \(Window.largest), found \(left) × \(right)")
      }
    }
    let depth = left[left.rank - 1]
    let rightDepth = right[right.rank - rightDepthOffset]
    if let depth = depth.extent, let rightDepth = rightDepth.extent, depth != rightDepth {
      throw .malformed(
        "a matrix product sums over axes of equal extent, found \(depth) of \(left) and "
          + "\(rightDepth) of \(right)")
    }
    // For two activations that are codes, only the largest possible sum is known.
    if let weights = operands[ProductOperand.weights], weights.constant == nil,
      case .fixed = weights.type.quantization, let extent = depth.extent ?? rightDepth.extent,
      extent > AccumulatorBound.largest / (255 * 255)
    {
      throw .malformed("sums over \(extent) products of codes may exceed 32 bits")
    }
    let columns = right[right.rank - rightColumnOffset]
    var axes: [Shape.Axis] = []
    let leadingRank = max(left.rank, right.rank) - 2
    for index in 0..<leadingRank {
      let leftIndex = index - leadingRank + left.rank - 2
      let rightIndex = index - leadingRank + right.rank - 2
      let leftAxis = leftIndex >= 0 ? left[leftIndex] : .fixed(1)
      let rightAxis = rightIndex >= 0 ? right[rightIndex] : .fixed(1)
      switch (leftAxis, rightAxis) {
      case (.fixed(1), let axis), (let axis, .fixed(1)): axes.append(axis)
      case (.fixed(let a), .fixed(let b)):
        guard a == b else {
          throw .malformed(
            "leading axes of a matrix product must be equal or 1, found \(left) × \(right)")
        }
        axes.append(.fixed(a))
      case (.fixed(let extent), .free), (.free, .fixed(let extent)): axes.append(.fixed(extent))
      case (.free(let a), .free(let b)): axes.append(a == b ? .free(a) : .free(""))
      }
    }
    let shape = Shape(axes + [left[left.rank - 2], columns])
    let rule = ProductRule(
      operation: Self.name, channelAxis: right.rank - rightColumnOffset, channels: columns,
      parameterAxes: left.rank - 1, takesActivationsAsWeights: true,
      groupAxis: right.rank == 2 ? right.rank - rightDepthOffset : nil)
    return [try rule.outputType(for: operands, shape: shape, epilogue: epilogue)]
  }

  /// The extents of concrete operands that ``outputTypes(for:)`` accepts.
  func extents(left: [Int], right: [Int]) throws(QMError) -> Extents {
    let leftLeading = Array(left.dropLast(2))
    let rightLeading = Array(right.dropLast(2))
    let rank = max(leftLeading.count, rightLeading.count)
    let leftPadded = [Int](repeating: 1, count: rank - leftLeading.count) + leftLeading
    let rightPadded = [Int](repeating: 1, count: rank - rightLeading.count) + rightLeading
    var batches: [(left: Int, right: Int)] = [(0, 0)]
    for axis in 0..<rank {
      let (a, b) = (leftPadded[axis], rightPadded[axis])
      guard a == b || a == 1 || b == 1 else {
        throw .malformed(
          "leading axes of a matrix product must be equal or 1, found \(left) × \(right)")
      }
      var next: [(left: Int, right: Int)] = []
      for batch in batches {
        for index in 0..<max(a, b) {
          next.append(
            (batch.left * a + (a == 1 ? 0 : index), batch.right * b + (b == 1 ? 0 : index)))
        }
      }
      batches = next
    }
    guard left[left.count - 1] == right[right.count - rightDepthOffset] else {
      throw .malformed("a matrix product sums over axes of equal extent, found \(left) × \(right)")
    }
    return Extents(
      rows: left[left.count - 2], depth: left[left.count - 1],
      columns: right[right.count - rightColumnOffset], batches: batches,
      rightBatchCount: rightLeading.reduce(1, *))
  }
}

// MARK: - Reference

extension MatrixMultiply {
  /// For each output element, over the depth: `sum = left · right + sum`, starting with +0; in
  /// float32, each step is rounded once.
  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    guard let left = inputs[ProductOperand.input], let right = inputs[ProductOperand.weights]
    else { throw .malformed("\(Self.name) needs two factors") }
    let extents = try extents(left: left.shape, right: right.shape)
    let end = ReferenceEpilogue(epilogue, inputs, outputs[0])
    let rightZeroPoint = end.weightsZeroPoint
    var index = 0
    for batch in extents.batches {
      for row in 0..<extents.rows {
        let leftRow = batch.left * extents.rows + row
        for column in 0..<extents.columns {
          let first = leftRow * extents.depth
          func rightIndex(_ step: Int) -> Int {
            let matrix = batch.right * extents.depth * extents.columns
            return rightLayout == .depthFirst
              ? matrix + step * extents.columns + column : matrix + column * extents.depth + step
          }
          if let groups = end.groupScales {
            let zeroPoint = end.inputZeroPoint(row: leftRow)
            var sum = GroupSum(end, groups, row: leftRow)
            for step in 0..<extents.depth {
              let weight = rightIndex(step)
              sum.add(
                (left.code(at: first + step) - zeroPoint) &* right.code(at: weight),
                weight: weight)
            }
            end.finish(sum.total, channel: column, at: index)
          } else if end.isInteger {
            let zeroPoint = end.inputZeroPoint(row: leftRow)
            var sum: Int32 = 0
            for step in 0..<extents.depth {
              sum &+=
                (left.code(at: first + step) - zeroPoint)
                &* (right.code(at: rightIndex(step)) - rightZeroPoint)
            }
            end.finish(sum, row: leftRow, channel: column, at: index)
          } else {
            let (numbers, rightNumbers) = (
              left.elements(as: Float.self), right.elements(as: Float.self)
            )
            var sum: Float = 0
            for step in 0..<extents.depth {
              sum.addProduct(numbers[first + step], rightNumbers[rightIndex(step)])
            }
            end.finish(sum, channel: column, at: index)
          }
          index += 1
        }
      }
    }
  }
}

// MARK: - Kernels

extension MatrixMultiply {
  /// Up to this many rows, reading the weights takes longer than unpacking them for each row.
  private static let mostPackedRows = 2

  /// The panels of the right operand; nil if only the reference loops can compute this product.
  /// - Parameter keepsBits: whether codes of few bits stay packed if a kernel can read them so.
  private func panels(
    _ input: ElementType, _ right: Operand, shape: [Int], _ kernels: KernelSet, keepsBits: Bool
  ) -> ProductPanels? {
    let depth = shape[shape.count - rightDepthOffset]
    let columns = shape[shape.count - rightColumnOffset]
    let table =
      keepsBits
      ? ProductTable(
        packedFor: kernels, input: input, weights: right, depth: depth, columns: columns) : nil
    guard
      let table = table
        ?? ProductTable(
          for: kernels, input: input, weights: right, depth: depth, columns: columns)
    else { return nil }
    return ProductPanels(
      table: table, taps: 1, depth: depth, columns: columns,
      matrixCount: shape.dropLast(2).reduce(1, *),
      elementByteCount: right.type.elementType.byteCount)
  }

  private func kernel(
    for operands: [Operand?], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> MatrixKernel? {
    let left = try required(ProductOperand.input, of: operands).type
    let right = try required(ProductOperand.weights, of: operands)
    guard let leftShape = left.shape.extents, let rightShape = right.type.shape.extents else {
      return nil
    }
    let extents = try extents(left: leftShape, right: rightShape)
    let panels: ProductPanels
    switch packed?.scheme {
    case .panels(let packed): panels = packed
    case nil:
      guard
        let own = self.panels(left.elementType, right, shape: rightShape, kernels, keepsBits: false)
      else { return nil }
      panels = own
    case .grouped, .winograd, .recurrent:
      throw .internalFault("the weights are packed for another operation")
    }
    // With one right matrix, all left matrices together are one matrix.
    let isOne =
      extents.rightBatchCount == 1 && extents.batches.last?.left == extents.batches.count - 1
    let end = KernelEpilogue(epilogue, operands: operands)
    return MatrixKernel(
      panels: panels, rightLayout: rightLayout, end: end,
      rows: isOne ? extents.rows * extents.batches.count : extents.rows,
      batches: isOne ? [(0, 0)] : extents.batches, packed: packed?.buffer,
      parameters: end.hasOnePairOfRun ? .batch : .row)
  }

  public func packedInputs(_ operands: [Operand?]) -> [Int] { [ProductOperand.weights] }

  /// The panels of weights with scales per group.
  private func groupedPanels(
    _ input: ElementType, _ right: Operand, _ scales: GroupScales, _ kernels: KernelSet
  ) -> GroupedPanels? {
    guard rightLayout == .channelsFirst, let columns = right.type.shape.extents?[0],
      let table = ProductTable(
        for: kernels, input: input, weights: right, depth: scales.size, columns: columns)
    else { return nil }
    return GroupedPanels(table: table, taps: 1, scales: scales, columns: columns, matrixCount: 1)
  }

  public func pack(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights? {
    let right = try required(ProductOperand.weights, of: operands)
    guard let elements = right.constant?.bytes.baseAddress else { return nil }
    switch try panelsToPack(operands, kernels, packing) {
    case .grouped(let panels): return try panels.packed(elements)
    case .panels(let panels):
      return try panels.packed(
        elements, rightLayout,
        consuming: packing.consumedBuffer(ProductOperand.weights, of: operands))
    default: return nil
    }
  }

  public func packedForm(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedForm? {
    try panelsToPack(operands, kernels, packing).map { PackedForm(schemes: [$0]) }
  }

  /// nil if no kernel reads the weights in panels, or if they are not known before the run.
  private func panelsToPack(
    _ operands: [Operand?], _ kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights.Scheme? {
    let right = try required(ProductOperand.weights, of: operands)
    guard let constant = right.constant, constant.elementCount > 0 else { return nil }
    let left = try required(ProductOperand.input, of: operands).type
    if let scales = GroupScales(right.type.quantization, shape: constant.shape) {
      return groupedPanels(left.elementType, right, scales, kernels).map(
        PackedWeights.Scheme.grouped)
    }
    let rows = left.shape.axes.dropLast()
    let rowCount = Shape.elementCount(of: rows.map { $0.extent ?? .max })
    let hasFewRows = rowCount.map { (1...Self.mostPackedRows).contains($0) } ?? false
    let panels = panels(
      left.elementType, right, shape: constant.shape, kernels,
      keepsBits: hasFewRows || packing.memory == .compact)
    return panels.map(PackedWeights.Scheme.panels)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    if let scales = try groupScales(operands) {
      return try groupedKernel(for: operands, scales, packed: packed, kernels: kernels)
    }
    guard let kernel = try kernel(for: operands, packed: packed, kernels: kernels) else {
      return nil
    }
    return Kernel(
      name: "product \(kernel.panels.table.name)",
      scratchByteCount: { kernel.scratchByteCount(threads: $0) },
      run: { (memory) throws(QMError) in kernel.run(memory) })
  }

  private func groupScales(_ operands: [Operand?]) throws(QMError) -> GroupScales? {
    let right = try required(ProductOperand.weights, of: operands).type
    return right.shape.extents.flatMap { GroupScales(right.quantization, shape: $0) }
  }

  private func groupedKernel(
    for operands: [Operand?], _ scales: GroupScales, packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let left = try required(ProductOperand.input, of: operands).type
    let right = try required(ProductOperand.weights, of: operands)
    guard let leftShape = left.shape.extents,
      let panels = groupedPanels(left.elementType, right, scales, kernels),
      packed.map({ $0.scheme == .grouped(panels) }) ?? true,
      let kernel = GroupedProductKernel(
        panels, packed: packed?.buffer, end: KernelEpilogue(epilogue, operands: operands),
        rows: .matrix, rowCount: leftShape.dropLast().reduce(1, *), rowsPerParameters: 1,
        kernels: kernels)
    else { return nil }
    return kernel.kernel(name: "product")
  }
}

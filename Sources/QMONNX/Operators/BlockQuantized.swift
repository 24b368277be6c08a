import QMGraph
import QMOperations
import QMTensor

// ONNX Runtime's operators on weights of few bits with scales per block: MatMulNBits and
// GatherBlockQuantized. The weights become a constant that keeps its codes.

/// Integers of 2, 4 or 8 bits, the first of a byte in its low bits; each row begins with a byte of its
/// own.
private struct PackedRows {
  let bits: Int
  let bytes: [UInt8]
  let bytesPerRow: Int

  /// - Throws: `malformed` unless there are `rows` rows of at least `columns` integers.
  init(
    _ tensor: Tensor, bits: Int, rows: Int, columns: Int, _ what: String
  ) throws(QMError) {
    let (needed, overflow) = columns.multipliedReportingOverflow(by: bits)
    guard tensor.elementType == .uint8, rows > 0, tensor.elementCount % rows == 0, !overflow,
      tensor.elementCount / rows > 0, (needed - 1) / 8 < tensor.elementCount / rows
    else {
      throw .malformed(
        "the \(what) are \(tensor.elementType)\(tensor.shape); expected uint8 with \(rows) rows of \(columns) integers of \(bits) bits"
      )
    }
    self.bits = bits
    bytes = Array(tensor.elements(as: UInt8.self))
    bytesPerRow = tensor.elementCount / rows
  }

  subscript(row: Int, column: Int) -> Int {
    let place = column * bits
    let byte = bytes[row * bytesPerRow + place / 8]
    return Int(byte >> UInt8(place % 8)) & (1 << bits - 1)
  }
}

extension NodeReader {
  // MARK: MatMulNBits

  /// MatMulNBits: `A · Wᵀ + bias` with W `[N, K]` stored as `[N, blocks, bytes of a block]`.
  func matrixMultiplyOfBlocks() throws(QMError) {
    let input = try float(0)
    let bits = try integer("bits") ?? 4
    let (rows, depth, size) = try (
      extent("N", least: 1), extent("K", least: 1), extent("block_size", least: 1)
    )
    guard [2, 4, 8].contains(bits) else { throw .unsupported("bits = \(bits); expected 2, 4 or 8") }
    guard size * bits % 8 == 0 else {
      throw .malformed("blocks of \(size) integers of \(bits) bits do not fill bytes")
    }
    let blocks = (depth - 1) / size + 1
    let stored = try PackedRows(
      constantTensor(1, "weights"), bits: bits, rows: rows, columns: blocks * size, "weights")
    guard stored.bytesPerRow == blocks * size * bits / 8 else {
      throw .malformed(
        "a row of the weights has \(stored.bytesPerRow) bytes; expected \(blocks) blocks of \(size) integers of \(bits) bits"
      )
    }
    let scales = try blockNumbers(2, rows: rows, blocks: blocks, "scales")
    var zeros = [Float](repeating: Float(1 << (bits - 1)), count: rows * blocks)
    if let given = try optional(3) {
      if given.type == .uint8 {
        let packed = try PackedRows(
          constantTensor(3, "zero points"), bits: bits, rows: rows, columns: blocks, "zero points")
        zeros = (0..<rows * blocks).map { Float(packed[$0 / blocks, $0 % blocks]) }
      } else {
        zeros = try blockNumbers(3, rows: rows, blocks: blocks, "zero points")
      }
    }
    let groups = try groupIndices(4, depth: depth, blocks: blocks)
    let order = groups.flatMap { contiguous($0, size: size, blocks: blocks) }
    // The block of the integer at a depth, after the columns are put into that order.
    func block(_ depth: Int) -> Int { order == nil ? groups?[depth] ?? depth / size : depth / size }
    let places = order ?? Array(0..<depth)
    let integers = try Tensor([rows, depth], as: Float.self) { numbers in
      for row in 0..<rows {
        for (column, place) in places.enumerated() {
          numbers[row * depth + column] =
            Float(stored[row, place]) - zeros[row * blocks + block(column)]
        }
      }
    }
    let scaleTensor = try Tensor([rows, blocks], scales)
    let field = try Tensor([rows, depth], as: Float.self) { numbers in
      for row in 0..<rows {
        for column in 0..<depth {
          numbers[row * depth + column] = scales[row * blocks + block(column)]
        }
      }
    }
    var inBlocks: (scales: Tensor, axis: Int, size: Int)?
    if order != nil || groups == nil { inBlocks = (scaleTensor, 1, size) }
    let weights = try dequantizedConstant(
      integers, field, inBlocks,
      name: builder.construction.name(of: raw(1)))
    try requireFinite(weights, "weights")
    var columns = input
    if let order, order != Array(0..<depth) {
      guard shape(input).rank > 0 else { throw .malformed("input \(shape(input))") }
      columns = try append(
        .gather(Gather(axis: shape(input).rank - 1)), [input, addConstant(order, "order")],
        as: input.type, "ordered")
    }
    try finishProduct(columns, weights, optionalFloat(5))
  }

  /// The product of a value with constant weights `[N, K]`, and a bias.
  private func finishProduct(_ given: Value, _ weights: Value, _ bias: Value?) throws(QMError) {
    let rank = shape(given).rank
    guard rank > 0 else { throw .malformed("input \(shape(given)); expected at least one axis") }
    var input = given
    if rank == 1 {
      input = try append(.unsqueeze(Unsqueeze(axes: [0])), [given], as: given.type, "row")
    }
    let product = Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))
    var operands: [Value?] = [input, weights]
    var rest = bias
    if let bias, constant(bias) != nil, shape(bias).rank == 1 {
      try requireFinite(bias, "bias")
      operands.append(bias)
      rest = nil
    }
    guard rest != nil || rank == 1 else { return try finish(product, operands, as: given.type) }
    var result = try append(product, operands, as: given.type, "product")
    if rank == 1 {
      result = try append(.squeeze(Squeeze(axes: [0])), [result], as: given.type, "vector")
    }
    if let rest {
      result = try append(.binary(Binary(.add)), [result, rest], as: given.type, "biased")
    }
    try finish([result])
  }

  /// g_idx: the block of each row of Wᵀ; nil if it is absent.
  private func groupIndices(
    _ index: Int, depth: Int, blocks: Int
  ) throws(QMError) -> [Int]? {
    guard let indices = try constantIntegers(index, "block indices") else { return nil }
    // Some writers pad it to whole blocks.
    guard indices.count >= depth, indices.allSatisfy({ (0..<blocks).contains($0) }) else {
      throw .malformed(
        "\(indices.count) block indices (input \(index)); expected \(depth) from 0 to \(blocks - 1)"
      )
    }
    return Array(indices.prefix(depth))
  }

  /// The order of the depths that puts each block's together; nil if blocks would differ in size.
  private func contiguous(_ groups: [Int], size: Int, blocks: Int) -> [Int]? {
    let order = groups.indices.sorted { (groups[$0], $0) < (groups[$1], $1) }
    return order.indices.allSatisfy { groups[order[$0]] == $0 / size } ? order : nil
  }

  // MARK: GatherBlockQuantized

  /// GatherBlockQuantized: a look-up in a table of codes with scales per block of one axis.
  func gatherOfBlocks() throws(QMError) {
    let data = try raw(0)
    let bits = try integer("bits") ?? 4
    let stored = try constantTensor(0, "table")
    var extents = stored.shape
    let rank = extents.count
    guard rank > 0 else { throw .malformed("a table without axes") }
    let isPacked = data.type == .uint8 && builder.packedType(of: data) == nil
    let size = try extent("block_size", default: 128, least: 1)
    let gatherAxis = try axis(integer("gather_axis") ?? 0, rank: rank)
    let axis = try axis(integer("quantize_axis") ?? 1, rank: rank)
    guard isPacked || builder.packedType(of: data) != nil else {
      throw .malformed("a table of \(data.type); expected integers of fewer bits or uint8")
    }
    func unpacked(_ tensor: Tensor, _ extents: [Int], _ what: String) throws(QMError) -> [Float] {
      guard isPacked, bits < 8 else {
        return try Array(tensor.converted(to: .float32).elements(as: Float.self))
      }
      let columns = extents[rank - 1]
      let rows = extents.dropLast().reduce(1, *)
      let packed = try PackedRows(tensor, bits: bits, rows: rows, columns: columns, what)
      return (0..<rows * columns).map { Float(packed[$0 / columns, $0 % columns]) }
    }
    if isPacked {
      guard [2, 4, 8].contains(bits) else {
        throw .unsupported("bits = \(bits); expected 2, 4 or 8")
      }
      extents[rank - 1] = extents[rank - 1].multipliedReportingOverflow(by: 8 / bits).partialValue
    }
    guard Shape.elementCount(of: extents).map({ $0 > 0 }) ?? false else {
      throw .malformed("a table of shape \(extents)")
    }
    let integers = try unpacked(stored, extents, "codes")
    let scales = try float(2)
    guard let scaleTensor = constant(scales) else {
      throw .unsupported("input 2, the scales, is computed; expected a constant")
    }
    var blockExtents = extents
    blockExtents[axis] = (extents[axis] - 1) / size + 1
    guard scaleTensor.shape == blockExtents else {
      throw .malformed(
        "scales \(scaleTensor.shape) for \(extents) in blocks of \(size) along axis \(axis); expected \(blockExtents)"
      )
    }
    var zeros: [Float]?
    if hasInput(3) {
      let tensor = try constantTensor(3, "zero points")
      try requireSameType(data, raw(3))
      zeros = try unpacked(tensor, blockExtents, "zero points")
      guard zeros?.count == scaleTensor.elementCount else {
        throw .malformed("zero points \(tensor.shape) for scales \(scaleTensor.shape)")
      }
    }
    let standard: Float = isPacked ? Float(1 << (bits - 1)) : 0
    let inner = extents[(axis + 1)...].reduce(1, *)
    let (count, blocks) = (extents[axis], blockExtents[axis])
    /// The index of the block of an element.
    func block(_ index: Int) -> Int {
      (index / (count * inner) * blocks + index / inner % count / size) * inner + index % inner
    }
    let shifted = try Tensor(extents, as: Float.self) { numbers in
      for index in numbers.indices {
        numbers[index] = integers[index] - (zeros?[block(index)] ?? standard)
      }
    }
    let field = try scaleTensor.withElements(as: Float.self) { (scales) throws(QMError) in
      try Tensor(extents, as: Float.self) { numbers in
        for index in numbers.indices { numbers[index] = scales[block(index)] }
      }
    }
    let table = try dequantizedConstant(
      shifted, field, (scaleTensor, axis, size),
      name: builder.construction.name(of: data))
    try finish(.gather(Gather(axis: gatherAxis)), [table, raw(1)], as: scales.type)
  }

  // MARK: Parts

  /// The constant of integers times their scales, which keeps its codes.
  /// - Parameters:
  ///   - integers: without their zero points.
  ///   - field: the scale of each.
  ///   - blocks: the scales, if they are those of blocks along an axis.
  private func dequantizedConstant(
    _ integers: Tensor, _ field: Tensor, _ blocks: (scales: Tensor, axis: Int, size: Int)?,
    name: String
  ) throws(QMError) -> Value {
    let numbers = integers.elements(as: Float.self)
    let scales = field.elements(as: Float.self)
    let value = addConstant(
      try Tensor(integers.shape, as: Float.self) { products in
        for index in products.indices { products[index] = numbers[index] * scales[index] }
      }, name)
    var stored = StoredCodes.elements
    // Zero points may be fractions.
    if let blocks, numbers.allSatisfy({ $0 == $0.rounded() }) {
      stored = try StoredCodes(integers, blocks.scales, axis: blocks.axis, blockSize: blocks.size)
    }
    builder.construction.attach(stored, to: value)
    return value
  }

  private func constantTensor(_ index: Int, _ what: String) throws(QMError) -> Tensor {
    guard let tensor = constant(try raw(index)) else {
      throw .unsupported("input \(index), the \(what), is computed; expected a constant")
    }
    return tensor
  }

  /// A float constant with one number per block.
  private func blockNumbers(
    _ index: Int, rows: Int, blocks: Int, _ what: String
  ) throws(QMError) -> [Float] {
    guard let tensor = constant(try float(index)) else {
      throw .unsupported("input \(index), the \(what), is computed; expected a constant")
    }
    guard tensor.elementCount == rows * blocks else {
      throw .malformed(
        "\(tensor.elementCount) \(what) (input \(index)); expected \(blocks) for each of \(rows) rows"
      )
    }
    return Array(tensor.elements(as: Float.self))
  }

  private func extent(
    _ name: String, default standard: Int? = nil, least: Int
  ) throws(QMError) -> Int {
    guard let number = try integer(name) ?? standard else {
      throw .malformed("attribute '\(name)' is missing")
    }
    guard (least...Self.largestExtent).contains(number) else {
      throw .malformed("\(name) = \(number); expected a number from \(least)")
    }
    return number
  }
}

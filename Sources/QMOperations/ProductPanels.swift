import CQMKernels
import QMTensor

/// Matrices of weights in panels for one table, one after the other: the batches of a matrix
/// product, or the groups of a convolution.
struct ProductPanels: Hashable, Sendable {
  let table: ProductTable
  let taps: Int
  let depth: Int
  let columns: Int
  let matrixCount: Int
  /// Bytes of an element of the weights before packing.
  let elementByteCount: Int

  var panelByteCount: Int { table.panelByteCount(taps: taps, depth: depth) }
  var panelCount: Int { (columns + table.columns - 1) / table.columns }
  var byteCount: Int { matrixCount * panelCount * panelByteCount }

  /// The byte offset of the panel that begins with `column`, a multiple of the panels' columns.
  func offset(matrix: Int, column: Int = 0) -> Int {
    (matrix * panelCount + column / table.columns) * panelByteCount
  }

  /// Whether panels that were packed as these can be read as `other`: the same weights divided into
  /// other taps give the same bytes if no tap is padded.
  func canBeRead(as other: ProductPanels) -> Bool {
    if self == other { return true }
    let (own, others) = (joiningTaps, other.joiningTaps)
    guard own.panelByteCount == panelByteCount, others.panelByteCount == other.panelByteCount else {
      return false
    }
    return own == others
  }

  private var joiningTaps: ProductPanels {
    ProductPanels(
      table: table, taps: 1, depth: taps * depth, columns: columns, matrixCount: matrixCount,
      elementByteCount: elementByteCount)
  }

  /// Packs one matrix.
  /// - Parameters:
  ///   - weights: all matrices: `[matrix][column][tap][depth]`, or `[matrix][depth][column]`.
  ///   - panels: memory for the panels of all matrices.
  ///   - source: the buffer of the weights, if its pages may be freed once they are packed.
  func pack(
    matrix: Int, _ weights: UnsafeRawPointer, _ layout: RightLayout,
    into panels: UnsafeMutableRawPointer, consuming source: Buffer? = nil
  ) {
    let isDepthFirst = layout == .depthFirst
    let columnStride = taps * depth
    var part = qm_weights(
      elements: weights + matrix * columns * columnStride * elementByteCount, taps: Int64(taps),
      depth: Int64(depth), columns: Int64(columns), tap_stride: Int64(depth),
      depth_stride: isDepthFirst ? Int64(columns) : 1,
      column_stride: isDepthFirst ? 1 : Int64(columnStride))
    let target = panels + offset(matrix: matrix)
    guard let source, !isDepthFirst else { return table.pack(part, into: target) }
    let columnByteCount = columnStride * elementByteCount
    let step = table.columns * max(1, Self.consumedByteCount / (table.columns * columnByteCount))
    let first = part.elements!
    for column in stride(from: 0, to: columns, by: step) {
      let count = min(step, columns - column)
      part.columns = Int64(count)
      part.elements = first + column * columnByteCount
      table.pack(part, into: target + column / table.columns * panelByteCount)
      source.discard(before: part.elements + count * columnByteCount)
    }
  }

  /// Bytes of weights that are packed before their pages are freed.
  private static let consumedByteCount = 1 << 16

  /// Packs all matrices of a constant into a new buffer.
  func packed(
    _ weights: UnsafeRawPointer, _ layout: RightLayout, consuming source: Buffer?
  ) throws(QMError) -> PackedWeights {
    let buffer = try Buffer.pages(byteCount: byteCount)
    for matrix in 0..<matrixCount {
      pack(matrix: matrix, weights, layout, into: buffer.base, consuming: source)
    }
    return PackedWeights(scheme: .panels(self), buffer: buffer)
  }
}

/// The loop over the columns of one chunk of a product, whose rows are prepared.
struct PanelLoop: Sendable {
  let panels: ProductPanels
  let end: KernelEpilogue
  /// Stores the output with channels first; only if the rows are the positions of one sample.
  var store: ChannelsFirstStore?

  /// The part of the output that a chunk computes.
  struct Chunk {
    var matrix: Int
    /// Columns of the matrix.
    var columns: Range<Int>
    /// The output channel of the matrix's column 0.
    var firstChannel = 0
    /// The output element of column 0 in the first row, with channels last.
    var firstElement: Int
    /// Bytes from the input of a panel to that of the next: not 0 only for depthwise convolution.
    var inputStep = 0
  }

  /// Columns of a block. To store with channels first, each panel is a block, which is first
  /// written to scratch memory.
  func columnStep(of columns: Range<Int>) -> Int {
    store == nil ? columns.count : panels.table.columns
  }

  /// Elements from one row of a block's output to the next.
  func outputPitch(columns: Int) -> Int { store == nil ? columns : panels.table.columns }

  /// Bytes of one panel of the outputs of `rows` rows, if they are stored with channels first.
  func storedByteCount(rows: Int) -> Int {
    store.map { rows * panels.table.columns * $0.elementByteCount } ?? 0
  }

  /// - Parameters:
  ///   - block: columns, weights and epilogue are set here; its input is that of the chunk's first
  ///     column.
  ///   - stored: ``storedByteCount(rows:)`` bytes of scratch memory.
  ///   - storing: copies a panel from `stored` to the output; called only with a ``store``.
  func run(
    _ chunk: Chunk, _ block: inout qm_product_block, _ memory: Kernel.Memory,
    weights: UnsafeRawPointer, multipliers: UnsafePointer<Float>?,
    rowParameters: UnsafePointer<Float>? = nil, rowCorrections: UnsafePointer<Int32>? = nil,
    stored: UnsafeMutableRawPointer,
    storing: (_ store: ChannelsFirstStore, _ channel: Int, _ channels: Int) -> Void
  ) {
    let step = columnStep(of: chunk.columns)
    for column in stride(from: chunk.columns.lowerBound, to: chunk.columns.upperBound, by: step) {
      block.columns = Int64(min(step, chunk.columns.upperBound - column))
      block.weights = weights + panels.offset(matrix: chunk.matrix, column: column)
      block.epilogue = end.block(
        memory, element: chunk.firstElement + column, column: chunk.firstChannel + column,
        multipliers: multipliers, output: store == nil ? nil : stored)
      block.epilogue.row_parameters = rowParameters
      block.epilogue.row_corrections = rowCorrections
      panels.table.multiply(block)
      if let store { storing(store, chunk.firstChannel + column, Int(block.columns)) }
      block.input = block.input + chunk.inputStep
    }
  }
}

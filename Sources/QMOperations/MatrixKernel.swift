import CQMKernels
import QMTensor

/// Products of matrices with consecutive rows: matrix products, and convolutions with a window of
/// one element.
struct MatrixKernel: Sendable {
  /// Whether each row of a dynamically quantized input has its own scale and zero point, or each
  /// batch.
  enum Parameters { case row, batch }

  let panels: ProductPanels
  let rightLayout: RightLayout
  let end: KernelEpilogue
  let rows: Int
  /// For each matrix of the output, the matrices of the left and right operand.
  let batches: [(left: Int, right: Int)]
  /// The ``panels``, if they were packed when the model was loaded.
  let packed: Buffer?
  let parameters: Parameters
  /// Stores the output with channels first; only if the rows are the positions of one sample.
  var store: ChannelsFirstStore?

  private var table: ProductTable { panels.table }
  private var depth: Int { panels.depth }
  private var columns: Int { panels.columns }
  private var loop: PanelLoop { PanelLoop(panels: panels, end: end, store: store) }

  private struct Layout {
    var multipliers = 0
    var panels = 0
    var prepared = 0
    /// The outputs of one panel of columns, before they are stored with channels first.
    var stored = 0
    var corrections = 0
    var threadByteCount = 0
    var byteCount = 0
    var rowBlock = 0
    var columnBlock = 0
  }

  private func layout(threads: Int) -> Layout {
    var layout = Layout()
    let rowByteCount = depth * table.inputByteCount
    var rowBlock = max(ProductBlocking.inputByteCount / rowByteCount / 24 * 24, 24)
    let outputRowByteCount = columns * end.epilogue.output.elementType.byteCount
    let fitting = ProductBlocking.outputByteCount / outputRowByteCount / 24 * 24
    if store == nil { rowBlock = min(rowBlock, max(fitting, 2 * ProductBlocking.leastRows)) }
    rowBlock = evenPart(of: rows, largest: rowBlock)
    let panelCount = panels.panelCount
    var columnPanels = panelCount
    let work = Double(batches.count) * Double(rows) * Double(depth) * Double(columns)
    if threads > 1, work >= Double(ProductBlocking.leastSharedWork) {
      let wanted = threads * ProductBlocking.chunksPerThread
      func chunks() -> Int {
        batches.count * ((rows + rowBlock - 1) / rowBlock)
          * ((panelCount + columnPanels - 1) / columnPanels)
      }
      while chunks() < wanted, rowBlock > ProductBlocking.leastRows {
        rowBlock = (rowBlock + 1) / 2
      }
      while chunks() < wanted, columnPanels > 4 { columnPanels = (columnPanels + 1) / 2 }
    }
    layout.rowBlock = rowBlock
    layout.columnBlock = columnPanels * table.columns
    var scratch = ScratchLayout()
    layout.multipliers = scratch.reserve(end.isInteger ? 4 * columns : 0)
    layout.panels = scratch.reserve(packed == nil ? panels.byteCount : 0)
    var thread = ScratchLayout()
    if end.isInteger {
      layout.prepared = thread.reserve(rowBlock * rowByteCount + table.slackByteCount)
      // The corrections of rows follow the multipliers of a batch if there are both.
      let multipliers = parameters == .batch ? columns : 0
      let sums = end.weightsZeroPoint == 0 ? 0 : rowBlock
      layout.corrections = thread.reserve(4 * max(rowBlock, multipliers + sums))
    }
    layout.stored = thread.reserve(loop.storedByteCount(rows: rowBlock))
    layout.threadByteCount = thread.byteCount
    let perThread = scratch.reserve(threads * thread.byteCount)
    layout.prepared += perThread
    layout.stored += perThread
    layout.corrections += perThread
    layout.byteCount = scratch.byteCount
    return layout
  }

  func scratchByteCount(threads: Int) -> Int { layout(threads: threads).byteCount }

  func run(_ memory: Kernel.Memory) {
    let layout = layout(threads: memory.threads.threadCount)
    let scratch = memory.scratch
    let weights: UnsafeRawPointer
    if let packed {
      weights = UnsafeRawPointer(packed.base)
    } else {
      let right = UnsafeRawPointer(memory.inputs[ProductOperand.weights]!)
      memory.threads.run(chunks: panels.matrixCount) { (matrix, _) in
        panels.pack(matrix: matrix, right, rightLayout, into: scratch + layout.panels)
      }
      weights = UnsafeRawPointer(scratch + layout.panels)
    }
    let multipliers = (scratch + layout.multipliers).assumingMemoryBound(to: Float.self)
    if end.isInteger {
      let scale = end.isDynamic ? nil : end.inputParameters(row: 0, of: memory).scale
      end.fillMultipliers(multipliers, count: columns, inputScale: scale, of: memory)
    }
    let rowBlocks = (rows + layout.rowBlock - 1) / layout.rowBlock
    let columnBlocks = (columns + layout.columnBlock - 1) / layout.columnBlock
    withUnsafeTemporaryAllocation(of: Int64.self, capacity: 1) { taps in
      taps[0] = 0
      memory.threads.run(chunks: batches.count * rowBlocks * columnBlocks) { (chunk, thread) in
        let columnBlock = chunk % columnBlocks
        let rowBlock = chunk / columnBlocks % rowBlocks
        multiply(
          memory, layout, batch: chunk / columnBlocks / rowBlocks,
          firstRow: rowBlock * layout.rowBlock, firstColumn: columnBlock * layout.columnBlock,
          thread: thread, weights: weights, multipliers: multipliers,
          taps: taps.baseAddress!)
      }
    }
  }

  private func multiply(
    _ memory: Kernel.Memory, _ layout: Layout, batch: Int, firstRow: Int, firstColumn: Int,
    thread: Int, weights: UnsafeRawPointer, multipliers: UnsafePointer<Float>,
    taps: UnsafePointer<Int64>
  ) {
    let count = min(layout.rowBlock, rows - firstRow)
    let source = batches[batch]
    let threadOffset = thread * layout.threadByteCount
    var block = qm_product_block()
    let input = prepared(
      memory, layout, row: source.left * rows + firstRow, count: count, matrix: source.left,
      threadOffset: threadOffset, multipliers: multipliers)
    block.input = input.rows
    block.zero_point = input.zeroPoint
    block.extents = (1, 1, Int64(count))
    block.input_strides = (0, 0, Int64(depth))
    block.output_strides = (0, 0, Int64(loop.outputPitch(columns: columns)))
    block.taps = taps
    block.tap_count = 1
    block.depth = Int64(depth)
    let stored = memory.scratch + layout.stored + threadOffset
    let chunk = PanelLoop.Chunk(
      matrix: source.right,
      columns: firstColumn..<min(firstColumn + layout.columnBlock, columns),
      firstElement: (batch * rows + firstRow) * columns)
    loop.run(
      chunk, &block, memory, weights: weights, multipliers: input.multipliers,
      rowParameters: input.parameters, rowCorrections: input.corrections, stored: stored
    ) { (store, channel, channels) in
      let place = (batch * columns + channel) * rows + firstRow
      store.store(
        stored, pitch: table.columns, positions: count, channels: channels,
        to: memory.outputs[0]! + place * store.elementByteCount)
    }
  }

  /// Rows of the left operand, prepared for the table, and what the epilogue needs for them.
  private struct PreparedRows {
    var rows: UnsafeRawPointer
    /// The zero point that all rows share.
    var zeroPoint: Int32 = 0
    var multipliers: UnsafePointer<Float>
    var parameters: UnsafePointer<Float>?
    var corrections: UnsafePointer<Int32>?
  }

  /// - Parameters:
  ///   - row: index of the first row, over all matrices of the left operand.
  ///   - matrix: the matrix that the rows belong to.
  private func prepared(
    _ memory: Kernel.Memory, _ layout: Layout, row: Int, count: Int, matrix: Int,
    threadOffset: Int, multipliers: UnsafePointer<Float>
  ) -> PreparedRows {
    let left = UnsafeRawPointer(memory.inputs[ProductOperand.input]!)
    let input = left + row * depth * end.inputElementByteCount
    guard end.isInteger else { return PreparedRows(rows: input, multipliers: multipliers) }
    let target = memory.scratch + layout.prepared + threadOffset
    var prepared = PreparedRows(rows: UnsafeRawPointer(target), multipliers: multipliers)
    if end.isDynamic, parameters == .row {
      if table.readsCodes {
        prepare(input, rows: count, 0, target)
      } else {
        for index in 0..<count {
          let zeroPoint = end.inputParameters(row: row + index, of: memory).zeroPoint
          prepare(
            input + index * depth, rows: 1, zeroPoint,
            target + index * depth * table.inputByteCount)
        }
      }
      let pairs = KernelEpilogue.operand(ProductOperand.inputParameters, of: memory)!
        .assumingMemoryBound(to: Float.self)
      prepared.parameters = UnsafePointer(pairs + 2 * row)
    } else {
      let (scale, zeroPoint) = end.inputParameters(row: matrix, of: memory)
      prepare(input, rows: count, zeroPoint, target)
      prepared.zeroPoint = zeroPoint
      if end.isDynamic {
        let own = (memory.scratch + layout.corrections + threadOffset)
          .assumingMemoryBound(to: Float.self)
        end.fillMultipliers(own, count: columns, inputScale: scale, of: memory)
        prepared.multipliers = UnsafePointer(own)
      }
    }
    if end.weightsZeroPoint != 0 {
      let place = layout.corrections + (parameters == .batch ? 4 * columns : 0)
      let sums = (memory.scratch + place + threadOffset).assumingMemoryBound(to: Int32.self)
      table.sumRows(target, count: count, depth: depth, into: sums)
      for index in 0..<count {
        if table.readsCodes {
          let inputRow = parameters == .row ? row + index : matrix
          let zeroPoint = end.inputParameters(row: inputRow, of: memory).zeroPoint
          sums[index] = sums[index] &- zeroPoint &* Int32(truncatingIfNeeded: depth)
        }
        sums[index] = sums[index] &* end.weightsZeroPoint
      }
      prepared.corrections = UnsafePointer(sums)
    }
    return prepared
  }

  private func prepare(
    _ input: UnsafeRawPointer, rows: Int, _ zeroPoint: Int32, _ output: UnsafeMutableRawPointer
  ) {
    table.prepare(
      qm_input_tile(
        input: input, input_extents: (1, 1, Int64(rows)), origin: (0, 0, 0),
        extents: (1, 1, Int64(rows)), channels: Int64(depth), pitch: Int64(depth),
        zero_point: zeroPoint, output: output))
  }
}

import CQMKernels
import QMTensor

// What the fast kernels of convolution and matrix product have in common.

/// One way of C to compute products.
struct ProductTable: @unchecked Sendable {
  private let pointer: UnsafePointer<qm_product>

  /// The fastest exact way for the operands; nil where the reference loops are the only one.
  /// - Parameter columns: all that the weights have.
  init?(
    for kernels: KernelSet, input: ElementType, weights: Operand, columns: Int,
    isDepthwise: Bool = false
  ) {
    guard let set = kernels.number else { return nil }
    let count = Int64(columns)
    if weights.type.elementType == .float32 {
      pointer =
        isDepthwise
        ? qm_depthwise_float32(set)
        : qm_product_float32_n(set, count) ?? qm_product_float32(set)
    } else if input == .int16 {
      guard !isDepthwise else { return nil }
      pointer = qm_product_int16_n(set, count) ?? qm_product_int16(set)
    } else {
      // Only of constants it is proven that their codes keep within their width; a zero point of
      // theirs takes codes of the input that are wide.
      var bits = 16
      if case .weights(let width, _) = weights.type.quantization {
        bits = weights.constant == nil ? 8 : width.bits
      }
      pointer =
        isDepthwise
        ? qm_depthwise_int8(set)
        : qm_product_int8_n(set, count) ?? qm_product_int8(set, Int32(bits))
    }
  }

  /// The way for matrices of few rows whose weights stay packed in memory; nil where it is no
  /// gain.
  init?(
    packedFor kernels: KernelSet, input: ElementType, weights: Operand, depth: Int, columns: Int
  ) {
    guard let set = kernels.number, input == .int8, weights.constant != nil,
      depth >= Self.leastDepth, qm_product_int8_n(set, Int64(columns)) == nil,
      case .weights(let bits, _) = weights.type.quantization,
      let table = qm_product_packed_int8(set, Int32(bits.bits))
    else { return nil }
    pointer = table
  }

  /// From here on packed weights take less memory than others.
  private static let leastDepth = 16

  var name: String { String(cString: pointer.pointee.name) }
  /// Columns of a panel.
  var columns: Int { Int(pointer.pointee.columns) }
  var inputByteCount: Int { Int(pointer.pointee.input_bytes) }
  var slackByteCount: Int { Int(pointer.pointee.slack_bytes) }
  /// Whether a prepared box holds the columns of a panel together, row by row of positions.
  var splitsPanels: Bool { pointer.pointee.splits_panels }
  /// Whether the product reads codes and learns of their zero point from the block.
  var readsCodes: Bool { pointer.pointee.reads_codes }

  func panelByteCount(taps: Int, depth: Int) -> Int {
    Int(pointer.pointee.panel_bytes(Int64(taps), Int64(depth)))
  }

  func packedByteCount(taps: Int, depth: Int, columns: Int) -> Int {
    (columns + self.columns - 1) / self.columns * panelByteCount(taps: taps, depth: depth)
  }

  /// - Parameter source: what holds the weights, where it may go while they are packed.
  func pack(
    _ weights: qm_weights, elementByteCount: Int, into panels: UnsafeMutableRawPointer,
    givingUp source: Buffer? = nil
  ) {
    guard let source, weights.column_stride == weights.taps * weights.depth else {
      return withUnsafePointer(to: weights) { pointer.pointee.pack($0, panels) }
    }
    let columnByteCount = Int(weights.column_stride) * elementByteCount
    let panelByteCount = panelByteCount(taps: Int(weights.taps), depth: Int(weights.depth))
    let step = columns * max(1, Self.givenUpByteCount / (columns * columnByteCount))
    var part = weights
    for first in stride(from: 0, to: Int(weights.columns), by: step) {
      let count = min(step, Int(weights.columns) - first)
      part.columns = Int64(count)
      part.elements = weights.elements + first * columnByteCount
      withUnsafePointer(to: part) {
        pointer.pointee.pack($0, panels + first / columns * panelByteCount)
      }
      source.discard(before: part.elements + count * columnByteCount)
    }
  }

  /// Bytes of weights that are packed at a time where they are given up.
  private static let givenUpByteCount = 1 << 16

  func prepare(_ box: qm_input_tile) {
    withUnsafePointer(to: box) { pointer.pointee.prepare($0) }
  }

  func multiply(_ block: qm_product_block) {
    withUnsafePointer(to: block) { pointer.pointee.multiply($0) }
  }
}

/// Consecutive parts of a scratch memory, each aligned to ``Buffer/alignment``.
struct ScratchLayout {
  private(set) var byteCount = 0

  /// - Returns: the offset of a part of `byteCount` bytes.
  mutating func reserve(_ byteCount: Int) -> Int {
    let offset = self.byteCount
    let alignment = Buffer.alignment
    self.byteCount = offset + (byteCount + alignment - 1) / alignment * alignment
    return offset
  }
}

/// The epilogue of a kernel: what is known before the run, and how C is told of it.
struct KernelEpilogue: Sendable {
  let epilogue: Epilogue
  let input: Quantization
  let weights: Quantization
  let bias: ElementType?
  let residual: ValueType?
  let isInteger: Bool
  /// Bytes of an element of the input.
  let inputElementByteCount: Int

  init(_ epilogue: Epilogue, operands: [Operand?]) {
    func type(_ index: Int) -> ValueType? {
      index < operands.count ? operands[index]?.type : nil
    }
    self.epilogue = epilogue
    input = type(ProductOperand.input)?.quantization ?? .none
    weights = type(ProductOperand.weights)?.quantization ?? .none
    bias = type(ProductOperand.bias)?.elementType
    residual = type(ProductOperand.residual)
    let elementType = type(ProductOperand.input)?.elementType ?? .float32
    isInteger = elementType != .float32
    inputElementByteCount = elementType.byteCount
  }

  var isDynamic: Bool { if case .dynamic = input { true } else { false } }

  /// The code of the right factor that stands for 0.
  var weightsZeroPoint: Int32 { if case .fixed(_, let zero) = weights { zero } else { 0 } }

  static func operand(_ index: Int, of memory: Kernel.Memory) -> UnsafeMutableRawPointer? {
    index < memory.inputs.count ? memory.inputs[index] : nil
  }

  /// Scale and zero point of row or sample `row`.
  func inputParameters(row: Int, of memory: Kernel.Memory) -> (scale: Float, zeroPoint: Int32) {
    switch input {
    case .fixed(let scale, let zeroPoint): return (scale, zeroPoint)
    case .none, .weights: return (1, 0)
    case .dynamic:
      let parameters = Self.operand(ProductOperand.inputParameters, of: memory)!
        .assumingMemoryBound(to: Float.self)
      return (parameters[2 * row], QMOperations.zeroPoint(fromParameter: parameters[2 * row + 1]))
    }
  }

  /// Writes `inputScale · weight scale` for each column, or, without an input scale, the weight
  /// scales.
  func fillMultipliers(
    _ multipliers: UnsafeMutablePointer<Float>, count: Int, inputScale: Float?,
    of memory: Kernel.Memory
  ) {
    for column in 0..<count {
      let scale = weightScale(column, of: memory)
      multipliers[column] = inputScale.map { $0 * scale } ?? scale
    }
  }

  private func weightScale(_ column: Int, of memory: Kernel.Memory) -> Float {
    switch weights {
    case .fixed(let scale, _): return scale
    case .weights(_, let granularity):
      let scales = Self.operand(ProductOperand.weightScales, of: memory)!
        .assumingMemoryBound(to: Float.self)
      return scales[granularity == .perTensor ? 0 : column]
    case .none, .dynamic: return 1
    }
  }

  /// The epilogue of a block whose first output element is `element`, in column `column`.
  /// - Parameter output: where that element goes, if not to its place in the output.
  func block(
    _ memory: Kernel.Memory, element: Int, column: Int, multipliers: UnsafePointer<Float>?,
    output: UnsafeMutableRawPointer? = nil
  ) -> qm_epilogue {
    var end = qm_epilogue()
    if isInteger { end.multipliers = multipliers.map { $0 + column } }
    if let bias, let start = Self.operand(ProductOperand.bias, of: memory) {
      if bias == .int32 {
        end.integer_bias = UnsafePointer(start.assumingMemoryBound(to: Int32.self)) + column
      } else {
        end.bias = UnsafePointer(start.assumingMemoryBound(to: Float.self)) + column
      }
    }
    end.residual_number = QM_NUMBER_NONE
    if let residual, let start = Self.operand(ProductOperand.residual, of: memory) {
      end.residual = UnsafeRawPointer(start + element * residual.elementType.byteCount)
      end.residual_number = residual.elementType == .float32 ? QM_NUMBER_FLOAT32 : QM_NUMBER_INT8
      if case .fixed(let scale, let zeroPoint) = residual.quantization {
        end.residual_scale = scale
        end.residual_zero_point = zeroPoint
      }
    }
    if let function = epilogue.function {
      end.has_function = true
      end.function = function.unary
    }
    if let then = epilogue.then {
      end.has_then = true
      end.then = then.unary
    }
    end.output =
      output ?? memory.outputs[0]! + element * epilogue.output.elementType.byteCount
    switch epilogue.output {
    case .float32: end.output_number = QM_NUMBER_FLOAT32
    case .quantized(let elementType, let scale, let zeroPoint):
      end.output_number = elementType == .int8 ? QM_NUMBER_INT8 : QM_NUMBER_INT16
      end.inverse_scale = 1 / scale
      end.zero_point = zeroPoint
    }
    return end
  }
}

/// Cuts a product into chunks. Results do not depend on the cut.
enum ProductBlocking {
  /// Bytes of input that a chunk reads again for every panel of weights: they should stay in the
  /// second cache.
  static let inputByteCount = 128 << 10
  /// Bytes of output that a chunk comes back to for every panel of weights.
  static let outputByteCount = 256 << 10
  /// Chunks for each thread, so that a thread that is late holds up little.
  static let chunksPerThread = 4
  /// Rows below which a chunk is not cut further for the sake of the threads.
  static let leastRows = 48
  /// Multiply-adds, a few microseconds, below which threads would wait for each other longer than
  /// they work.
  static let leastSharedWork = 1 << 17
}

/// `count` in as many equal parts as it takes for each to be `largest` or less.
func evenPart(of count: Int, largest: Int) -> Int {
  let parts = (count + largest - 1) / largest
  return (count + parts - 1) / parts
}

/// Products of matrices whose rows follow each other in memory: matrix products, and convolutions
/// with a window of one element.
struct MatrixKernel: Sendable {
  /// Which rows share scale and zero point of a dynamic input.
  enum Parameters { case row, batch }

  let table: ProductTable
  let end: KernelEpilogue
  let rows: Int
  let depth: Int
  let columns: Int
  /// For each matrix of the output, the matrices of the left and right operand.
  let batches: [(left: Int, right: Int)]
  let rightBatchCount: Int
  /// Steps in the right operand, in elements.
  let depthStride: Int
  let columnStride: Int
  /// Of the right operand, made when the model was loaded.
  let packed: Buffer?
  let parameters: Parameters
  /// Where rows are the positions of one sample.
  var store: ChannelsFirstStore?

  private struct Layout {
    var multipliers = 0
    var panels = 0
    var prepared = 0
    /// Rows of the output, of one panel of columns.
    var stored = 0
    var corrections = 0
    var threadByteCount = 0
    var byteCount = 0
    var rowBlock = 0
    var columnBlock = 0
  }

  private var packedByteCount: Int {
    table.packedByteCount(taps: 1, depth: depth, columns: columns)
  }

  private func layout(threads: Int) -> Layout {
    var layout = Layout()
    let rowByteCount = depth * table.inputByteCount
    var rowBlock = max(ProductBlocking.inputByteCount / rowByteCount / 24 * 24, 24)
    let outputRowByteCount = columns * end.epilogue.output.elementType.byteCount
    let fitting = ProductBlocking.outputByteCount / outputRowByteCount / 24 * 24
    if store == nil { rowBlock = min(rowBlock, max(fitting, 2 * ProductBlocking.leastRows)) }
    rowBlock = evenPart(of: rows, largest: rowBlock)
    let panels = (columns + table.columns - 1) / table.columns
    var columnPanels = panels
    let work = Double(batches.count) * Double(rows) * Double(depth) * Double(columns)
    if threads > 1, work >= Double(ProductBlocking.leastSharedWork) {
      let wanted = threads * ProductBlocking.chunksPerThread
      func chunks() -> Int {
        batches.count * ((rows + rowBlock - 1) / rowBlock)
          * ((panels + columnPanels - 1) / columnPanels)
      }
      while chunks() < wanted, rowBlock > ProductBlocking.leastRows { rowBlock = (rowBlock + 1) / 2 }
      while chunks() < wanted, columnPanels > 4 { columnPanels = (columnPanels + 1) / 2 }
    }
    layout.rowBlock = rowBlock
    layout.columnBlock = columnPanels * table.columns
    var scratch = ScratchLayout()
    layout.multipliers = scratch.reserve(end.isInteger ? 4 * columns : 0)
    layout.panels = scratch.reserve(packed == nil ? rightBatchCount * packedByteCount : 0)
    var thread = ScratchLayout()
    if end.isInteger {
      layout.prepared = thread.reserve(rowBlock * rowByteCount + table.slackByteCount)
      layout.corrections = thread.reserve(4 * max(rowBlock, parameters == .batch ? columns : 0))
    }
    if let store {
      layout.stored = thread.reserve(rowBlock * table.columns * store.elementByteCount)
    }
    layout.threadByteCount = thread.byteCount
    let perThread = scratch.reserve(threads * thread.byteCount)
    layout.prepared += perThread
    layout.stored += perThread
    layout.corrections += perThread
    layout.byteCount = scratch.byteCount
    return layout
  }

  func scratchByteCount(threads: Int) -> Int { layout(threads: threads).byteCount }

  /// The right operand's matrices, one after the other.
  func pack(_ right: UnsafeRawPointer, batch: Int, into panels: UnsafeMutableRawPointer) {
    let elementByteCount = end.isInteger ? 1 : 4
    let matrix = right + batch * depth * columns * elementByteCount
    table.pack(
      qm_weights(
        elements: matrix, taps: 1, depth: Int64(depth), columns: Int64(columns), tap_stride: 0,
        depth_stride: Int64(depthStride), column_stride: Int64(columnStride)),
      elementByteCount: elementByteCount, into: panels + batch * packedByteCount)
  }

  func run(_ memory: Kernel.Memory) {
    let layout = layout(threads: memory.threads.threadCount)
    let scratch = memory.scratch
    let left = UnsafeRawPointer(memory.inputs[ProductOperand.input]!)
    let panels: UnsafeRawPointer
    if let packed {
      panels = UnsafeRawPointer(packed.base)
    } else {
      let right = UnsafeRawPointer(memory.inputs[ProductOperand.weights]!)
      memory.threads.run(chunks: rightBatchCount) { (batch, _) in
        pack(right, batch: batch, into: scratch + layout.panels)
      }
      panels = UnsafeRawPointer(scratch + layout.panels)
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
          thread: thread, left: left, panels: panels, multipliers: multipliers,
          taps: taps.baseAddress!)
      }
    }
  }

  private func multiply(
    _ memory: Kernel.Memory, _ layout: Layout, batch: Int, firstRow: Int, firstColumn: Int,
    thread: Int, left: UnsafeRawPointer, panels: UnsafeRawPointer,
    multipliers: UnsafePointer<Float>, taps: UnsafePointer<Int64>
  ) {
    let count = min(layout.rowBlock, rows - firstRow)
    let source = batches[batch]
    let leftRow = source.left * rows + firstRow
    let threadOffset = thread * layout.threadByteCount
    var block = qm_product_block()
    var ownMultipliers = multipliers
    var rowParameters: UnsafePointer<Float>?
    var rowCorrections: UnsafePointer<Int32>?
    if end.isInteger {
      let prepared = memory.scratch + layout.prepared + threadOffset
      let input = left + leftRow * depth * end.inputElementByteCount
      if end.isDynamic, parameters == .row {
        if table.readsCodes {
          prepare(input, rows: count, 0, prepared)
        } else {
          for row in 0..<count {
            let zeroPoint = end.inputParameters(row: leftRow + row, of: memory).zeroPoint
            prepare(
              input + row * depth, rows: 1, zeroPoint,
              prepared + row * depth * table.inputByteCount)
          }
        }
        let pairs = KernelEpilogue.operand(ProductOperand.inputParameters, of: memory)!
          .assumingMemoryBound(to: Float.self)
        rowParameters = UnsafePointer(pairs + 2 * leftRow)
      } else {
        let of = end.inputParameters(row: source.left, of: memory)
        prepare(input, rows: count, of.zeroPoint, prepared)
        block.zero_point = of.zeroPoint
        if end.isDynamic {
          let own = (memory.scratch + layout.corrections + threadOffset)
            .assumingMemoryBound(to: Float.self)
          end.fillMultipliers(own, count: columns, inputScale: of.scale, of: memory)
          ownMultipliers = UnsafePointer(own)
        }
      }
      if end.weightsZeroPoint != 0 {
        let sums = (memory.scratch + layout.corrections + threadOffset)
          .assumingMemoryBound(to: Int32.self)
        qm_row_sums_int16(
          prepared.assumingMemoryBound(to: Int16.self), Int64(count), Int64(depth), sums)
        for row in 0..<count { sums[row] = sums[row] &* end.weightsZeroPoint }
        rowCorrections = UnsafePointer(sums)
      }
      block.input = UnsafeRawPointer(prepared)
    } else {
      block.input = left + leftRow * depth * 4
    }
    block.extents = (1, 1, Int64(count))
    block.input_strides = (0, 0, Int64(depth))
    block.output_strides = (0, 0, Int64(store == nil ? columns : table.columns))
    block.taps = taps
    block.tap_count = 1
    block.depth = Int64(depth)
    let panelByteCount = table.panelByteCount(taps: 1, depth: depth)
    let endColumn = min(firstColumn + layout.columnBlock, columns)
    // What is stored with channels first goes panel by panel through memory of its own.
    let stored = store.map { _ in memory.scratch + layout.stored + threadOffset }
    let step = store == nil ? endColumn - firstColumn : table.columns
    for column in stride(from: firstColumn, to: endColumn, by: step) {
      block.columns = Int64(min(step, endColumn - column))
      block.weights =
        panels + source.right * packedByteCount + column / table.columns * panelByteCount
      block.epilogue = end.block(
        memory, element: (batch * rows + firstRow) * columns + column, column: column,
        multipliers: ownMultipliers, output: stored)
      block.epilogue.row_parameters = rowParameters
      block.epilogue.row_corrections = rowCorrections
      table.multiply(block)
      if let store, let stored {
        let place = (batch * columns + column) * rows + firstRow
        store.store(
          stored, pitch: table.columns, positions: count, channels: Int(block.columns),
          to: memory.outputs[0]! + place * store.elementByteCount)
      }
    }
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

import CQMKernels
import QMTensor

/// The panels of weights with scales per group: one group after the other, each with all columns.
/// The rows of a convolution are its windows.
struct GroupedPanels: Hashable, Sendable {
  let table: ProductTable
  /// Consecutive weights of a column that share a scale.
  let groups: [Range<Int>]
  let columns: Int
  /// Number of channel groups of a convolution.
  let matrixCount: Int

  /// - Parameters:
  ///   - taps: number of taps of a window; a group of weights does not extend over several taps.
  ///   - scales: the scales of the weights `[matrix, column][tap][depth]`.
  init(table: ProductTable, taps: Int, scales: GroupScales, columns: Int, matrixCount: Int) {
    self.table = table
    self.columns = columns
    self.matrixCount = matrixCount
    groups = (0..<taps).flatMap { tap in
      (0..<scales.count).map { group in
        let first = tap * scales.extent + group * scales.size
        let rest = scales.extent - group * scales.size
        return first..<(first + min(scales.size, rest))
      }
    }
  }

  var depth: Int { groups.last?.upperBound ?? 0 }

  private func panels(_ group: Int) -> ProductPanels {
    ProductPanels(
      table: table, taps: 1, depth: groups[group].count, columns: columns, matrixCount: 1,
      elementByteCount: 1)
  }

  /// The offset of each group's panels, by matrix; the last entry is the end of all panels.
  var offsets: [Int] {
    var offsets = [0]
    for _ in 0..<matrixCount {
      for group in groups.indices { offsets.append(offsets.last! + panels(group).byteCount) }
    }
    return offsets
  }

  /// Memory for the panels of all matrices, in bytes.
  var byteCount: Int { offsets.last! }

  func packed(_ weights: UnsafeRawPointer) throws(QMError) -> PackedWeights {
    let buffer = try Buffer.pages(byteCount: byteCount)
    pack(weights, into: buffer.base)
    return PackedWeights(scheme: .grouped(self), buffer: buffer)
  }

  /// - Parameter weights: `[matrix, column][tap][depth]`.
  func pack(_ weights: UnsafeRawPointer, into target: UnsafeMutableRawPointer) {
    let offsets = offsets
    for matrix in 0..<matrixCount {
      for (group, range) in groups.enumerated() {
        let first = weights + matrix * columns * depth + range.lowerBound
        table.pack(
          qm_weights(
            elements: first, taps: 1, depth: Int64(range.count), columns: Int64(columns),
            tap_stride: 0, depth_stride: 1, column_stride: Int64(depth)),
          into: target + offsets[matrix * groups.count + group])
      }
    }
  }
}

/// Products of codes and weights with scales per group: the sum of each group is scaled and added
/// to a float32 sum, with which the epilogue starts.
struct GroupedProductKernel: Sendable {
  /// Where the rows of codes come from.
  enum Rows: Sendable {
    /// They are consecutive in the input.
    case matrix
    /// The windows of a convolution.
    case windows(ConvolutionWindows)
  }

  let panels: GroupedPanels
  /// The ``panels``, if they were packed when the model was loaded.
  let packed: Buffer?
  let end: KernelEpilogue
  let rows: Rows
  let rowCount: Int
  /// Consecutive rows that share the scale and zero point of a dynamically quantized input.
  let rowsPerParameters: Int
  /// Passes the float32 sums to the epilogue: a product of each column and the number 1.
  private let copy: ProductTable
  private let offsets: [Int]

  /// - Returns: nil if only the reference loops can compute the product.
  init?(
    _ panels: GroupedPanels, packed: Buffer?, end: KernelEpilogue, rows: Rows, rowCount: Int,
    rowsPerParameters: Int, kernels: KernelSet
  ) {
    let one = Operand(ValueType(.float32, [1]))
    guard
      let copy = ProductTable(
        for: kernels, input: .float32, weights: one, depth: 1, columns: panels.columns,
        isDepthwise: true)
    else { return nil }
    self.panels = panels
    self.packed = packed
    self.end = end
    self.rows = rows
    self.rowCount = rowCount
    self.rowsPerParameters = rowsPerParameters
    self.copy = copy
    offsets = panels.offsets
  }

  private var table: ProductTable { panels.table }
  private var columns: Int { panels.columns }
  private var channels: Int { columns * panels.matrixCount }
  /// Rows of a chunk.
  private static let rowBlock = 48
  /// Elements from one row of sums to the next: whole panels.
  private var pitch: Int { (columns + copy.columns - 1) / copy.columns * copy.columns }
  /// Elements of a row, over all matrices.
  private var rowLength: Int { panels.depth * panels.matrixCount }

  private struct Layout {
    var panels = 0
    var multipliers = 0
    var ones = 0
    var thread = 0
    var threadByteCount = 0
    var byteCount = 0

    // Within a thread's part.
    var windows = 0
    var prepared = 0
    var parameters = 0
    var sums = 0
  }

  private func layout(threads: Int) -> Layout {
    var layout = Layout()
    var scratch = ScratchLayout()
    layout.panels = scratch.reserve(packed == nil ? offsets.last! : 0)
    layout.multipliers = scratch.reserve(4 * panels.groups.count * channels)
    layout.ones = scratch.reserve(4 * pitch)
    var thread = ScratchLayout()
    if case .windows = rows {
      layout.windows = thread.reserve(Self.rowBlock * rowLength * end.inputElementByteCount)
    }
    layout.prepared = thread.reserve(
      Self.rowBlock * rowLength * table.inputByteCount + table.slackByteCount)
    layout.parameters = thread.reserve(8 * Self.rowBlock)
    layout.sums = thread.reserve(4 * Self.rowBlock * pitch)
    layout.threadByteCount = thread.byteCount
    layout.thread = scratch.reserve(threads * thread.byteCount)
    layout.byteCount = scratch.byteCount
    return layout
  }

  /// - Parameter name: name of the operation, in the kernel's name.
  func kernel(name: String) -> Kernel {
    Kernel(
      name: "\(name) \(table.name) by group",
      scratchByteCount: { layout(threads: $0).byteCount },
      run: { (memory) throws(QMError) in run(memory) })
  }

  private func run(_ memory: Kernel.Memory) {
    let layout = layout(threads: memory.threads.threadCount)
    if packed == nil {
      panels.pack(memory.inputs[ProductOperand.weights]!, into: memory.scratch + layout.panels)
    }
    fillMultipliers(memory, layout)
    let ones = (memory.scratch + layout.ones).assumingMemoryBound(to: Float.self)
    ones.update(repeating: 1, count: pitch)
    let blocks = (rowCount + Self.rowBlock - 1) / Self.rowBlock
    memory.threads.run(chunks: blocks) { (chunk, thread) in
      let first = chunk * Self.rowBlock
      let scratch = memory.scratch + layout.thread + thread * layout.threadByteCount
      multiply(memory, layout, first..<min(first + Self.rowBlock, rowCount), scratch)
    }
  }

  /// Writes the weight scales by group and channel, multiplied by the input's scale if it is fixed.
  private func fillMultipliers(_ memory: Kernel.Memory, _ layout: Layout) {
    let multipliers = (memory.scratch + layout.multipliers).assumingMemoryBound(to: Float.self)
    let scales = memory.inputs[ProductOperand.weightScales]!.assumingMemoryBound(to: Float.self)
    let groupCount = panels.groups.count
    let inputScale = end.isDynamic ? nil : end.inputParameters(row: 0, of: memory).scale
    // A cache line of multipliers at a time: those of two groups may share a place in the cache.
    let line = 16
    for first in stride(from: 0, to: channels, by: line) {
      for group in 0..<groupCount {
        for channel in first..<min(first + line, channels) {
          let scale = scales[channel * groupCount + group]
          multipliers[group * channels + channel] = inputScale.map { $0 * scale } ?? scale
        }
      }
    }
  }

  private func multiply(
    _ memory: Kernel.Memory, _ layout: Layout, _ rows: Range<Int>,
    _ scratch: UnsafeMutableRawPointer
  ) {
    let prepared = scratch + layout.prepared
    let pairs = (scratch + layout.parameters).assumingMemoryBound(to: Float.self)
    prepare(memory, rows, windows: scratch + layout.windows, prepared, pairs)
    let sums = (scratch + layout.sums).assumingMemoryBound(to: Float.self)
    let multipliers = (memory.scratch + layout.multipliers).assumingMemoryBound(to: Float.self)
    let weights = packed?.base ?? memory.scratch + layout.panels
    withUnsafePointer(to: Int64(0)) { tap in
      var block = qm_product_block()
      block.extents = (1, 1, Int64(rows.count))
      block.taps = tap
      block.tap_count = 1
      for matrix in 0..<panels.matrixCount {
        block.columns = Int64(columns)
        block.input_strides = (0, 0, Int64(rowLength))
        block.output_strides = (0, 0, Int64(pitch))
        if !end.isDynamic { block.zero_point = end.inputParameters(row: 0, of: memory).zeroPoint }
        for (group, range) in panels.groups.enumerated() {
          let first = matrix * panels.depth + range.lowerBound
          block.input = UnsafeRawPointer(prepared + first * table.inputByteCount)
          block.depth = Int64(range.count)
          block.weights = UnsafeRawPointer(
            weights + offsets[matrix * panels.groups.count + group])
          block.epilogue = sumEpilogue(sums, isFirst: group == 0)
          block.epilogue.multipliers = UnsafePointer(
            multipliers + group * channels + matrix * columns)
          if end.isDynamic { block.epilogue.row_parameters = UnsafePointer(pairs) }
          table.multiply(block)
        }
        finish(
          memory, &block, rows, matrix: matrix, sums,
          ones: memory.scratch + layout.ones)
      }
    }
  }

  /// The epilogue that adds a group's product to the sums, or starts them with the first group.
  private func sumEpilogue(_ sums: UnsafeMutablePointer<Float>, isFirst: Bool) -> qm_epilogue {
    var epilogue = qm_epilogue()
    epilogue.residual_number = isFirst ? QM_NUMBER_NONE : QM_NUMBER_FLOAT32
    epilogue.residual = UnsafeRawPointer(sums)
    epilogue.output = UnsafeMutableRawPointer(sums)
    epilogue.output_number = QM_NUMBER_FLOAT32
    return epilogue
  }

  private func finish(
    _ memory: Kernel.Memory, _ block: inout qm_product_block, _ rows: Range<Int>, matrix: Int,
    _ sums: UnsafePointer<Float>, ones: UnsafeRawPointer
  ) {
    block.input = UnsafeRawPointer(sums)
    block.input_strides = (0, 0, Int64(pitch))
    block.output_strides = (0, 0, Int64(channels))
    block.depth = 1
    block.panel_stride = Int64(copy.columns)
    block.weights = ones
    block.epilogue = end.block(
      memory, element: rows.lowerBound * channels + matrix * columns, column: matrix * columns,
      multipliers: nil)
    copy.multiply(block)
  }

  /// Prepares the rows for the table, with scale and zero point of each row if they are dynamic.
  private func prepare(
    _ memory: Kernel.Memory, _ rows: Range<Int>, windows: UnsafeMutableRawPointer,
    _ prepared: UnsafeMutableRawPointer, _ pairs: UnsafeMutablePointer<Float>
  ) {
    let size = end.inputElementByteCount
    let input = UnsafeRawPointer(memory.inputs[ProductOperand.input]!)
    var codes = input + rows.lowerBound * rowLength * size
    if case .windows(let source) = self.rows {
      for row in rows {
        let (_, zeroPoint) = end.inputParameters(row: row / rowsPerParameters, of: memory)
        source.copy(
          row, of: input, elementByteCount: size, zeroPoint: zeroPoint,
          to: windows + (row - rows.lowerBound) * rowLength * size)
      }
      codes = UnsafeRawPointer(windows)
    }
    guard end.isDynamic else {
      let (_, zeroPoint) = end.inputParameters(row: 0, of: memory)
      return prepare(codes, count: rows.count, zeroPoint, prepared)
    }
    for (index, row) in rows.enumerated() {
      let (scale, zeroPoint) = end.inputParameters(row: row / rowsPerParameters, of: memory)
      pairs[2 * index] = scale
      pairs[2 * index + 1] = Float(zeroPoint)
      prepare(
        codes + index * rowLength * size, count: 1, zeroPoint,
        prepared + index * rowLength * table.inputByteCount)
    }
  }

  private func prepare(
    _ codes: UnsafeRawPointer, count: Int, _ zeroPoint: Int32, _ output: UnsafeMutableRawPointer
  ) {
    table.prepare(
      qm_input_tile(
        input: codes, input_extents: (1, 1, Int64(count)), origin: (0, 0, 0),
        extents: (1, 1, Int64(count)), channels: Int64(rowLength), pitch: Int64(rowLength),
        zero_point: zeroPoint, output: output))
  }
}

/// The windows of a convolution with channels last, as rows `[group][tap][channel]`.
struct ConvolutionWindows: Sendable {
  let axes: [WindowAxis]
  let channels: Int
  let groups: Int

  private var taps: Int { axes.reduce(1) { $0 * $1.window } }
  var positions: Int { axes.reduce(1) { $0 * $1.output } }

  /// - Parameters:
  ///   - row: index of an output position, over all samples, in row-major order.
  ///   - zeroPoint: the code that padding is read as.
  func copy(
    _ row: Int, of input: UnsafeRawPointer, elementByteCount size: Int, zeroPoint: Int32,
    to output: UnsafeMutableRawPointer
  ) {
    let (sample, position) = row.quotientAndRemainder(dividingBy: positions)
    let groupChannels = channels / groups
    let byteCount = groupChannels * size
    let plane = axes.reduce(1) { $0 * $1.input }
    for tap in 0..<taps {
      let place = place(of: tap, at: position)
      for group in 0..<groups {
        let target = output + (group * taps + tap) * byteCount
        if let place {
          let element = (sample * plane + place) * channels + group * groupChannels
          target.copyMemory(from: input + element * size, byteCount: byteCount)
        } else if size == 1 {
          target.initializeMemory(
            as: Int8.self, repeating: Int8(truncatingIfNeeded: zeroPoint), count: groupChannels)
        } else {
          target.initializeMemory(
            as: Int16.self, repeating: Int16(truncatingIfNeeded: zeroPoint), count: groupChannels)
        }
      }
    }
  }

  /// The position in the input that a tap reads; nil in the padding.
  private func place(of tap: Int, at position: Int) -> Int? {
    var (tap, position) = (tap, position)
    var place = 0
    var step = 1
    for axis in axes.reversed() {
      let index = axis.inputPosition(position % axis.output, tap: tap % axis.window)
      guard (0..<axis.input).contains(index) else { return nil }
      place += index * step
      step *= axis.input
      position /= axis.output
      tap /= axis.window
    }
    return place
  }
}

import CQMKernels
import QMTensor

/// Convolution with channels last over weights packed by output channels, without unrolled copies
/// of the input: each output element reads the taps of its window where they lie, in the input or
/// in a box of it that was padded (and widened, where it holds codes) once.
struct ConvolutionKernel: Sendable {
  /// Boxes beyond this are refused; the reference loops take over.
  static let largestBoxByteCount = 1 << 30

  /// How the weights `[O, k…, C/groups]` are cut into taps and depth.
  struct Cut: Sendable {
    let groups: Int
    let taps: Int
    let depth: Int
    let columns: Int
    let isDepthwise: Bool
    /// Whether the innermost axis of the window belongs to the depth: its positions follow each
    /// other in memory.
    let mergesInnermost: Bool

    /// - Parameter channels: of the input that a group reads, and of the output.
    init(channels: (input: Int, output: Int), window: [Int], dilations: [Int], groups: Int) {
      let positions = window.reduce(1, *)
      isDepthwise = groups > 1 && channels.input == 1 && channels.output == groups
      mergesInnermost = groups == 1 && dilations.last == 1
      let merged = mergesInnermost ? window.last ?? 1 : 1
      self.groups = isDepthwise ? 1 : groups
      taps = positions / merged
      depth = merged * channels.input
      columns = channels.output / self.groups
    }

    func packedByteCount(_ table: ProductTable) -> Int {
      table.packedByteCount(taps: taps, depth: depth, columns: columns)
    }

    /// Packs all groups, one after the other.
    func pack(
      _ weights: UnsafeRawPointer, elementByteCount: Int, table: ProductTable,
      into panels: UnsafeMutableRawPointer, givingUp source: Buffer? = nil
    ) {
      for group in 0..<groups {
        table.pack(
          qm_weights(
            elements: weights + group * columns * taps * depth * elementByteCount,
            taps: Int64(taps), depth: Int64(depth), columns: Int64(columns),
            tap_stride: Int64(depth), depth_stride: 1, column_stride: Int64(taps * depth)),
          elementByteCount: elementByteCount, into: panels + group * packedByteCount(table),
          givingUp: source)
      }
    }
  }

  /// Three numbers, outermost axis first.
  private struct Triple: Sendable {
    var z: Int
    var y: Int
    var x: Int

    init(_ z: Int, _ y: Int, _ x: Int) {
      self.z = z
      self.y = y
      self.x = x
    }

    /// One number per spatial axis; missing outer axes are `missing`.
    init(_ axes: [WindowAxis], missing: Int, _ number: (WindowAxis) -> Int) {
      let numbers = [Int](repeating: missing, count: 3 - axes.count) + axes.map(number)
      self.init(numbers[0], numbers[1], numbers[2])
    }

    var product: Int { z * y * x }
    var wide: (Int64, Int64, Int64) { (Int64(z), Int64(y), Int64(x)) }
  }

  let table: ProductTable
  let end: KernelEpilogue
  let cut: Cut
  /// Of all groups, made when the model was loaded.
  let packed: Buffer?
  let store: ChannelsFirstStore?
  let samples: Int
  let inputChannels: Int
  let outputChannels: Int
  private let input: Triple
  private let output: Triple
  private let window: Triple
  private let stride: Triple
  private let dilation: Triple
  private let before: Triple
  /// Elements of a position of the prepared input.
  private let pitch: Int
  /// Elements from one position of a row of it to the next.
  private let step: Int
  /// Whether chunks copy their part of the input first.
  private let copies: Bool

  /// - Returns: nil where a chunk would need more memory than is sensible.
  init?(
    table: ProductTable, end: KernelEpilogue, cut: Cut, extents: Convolution.Extents,
    packed: Buffer?, store: ChannelsFirstStore?
  ) {
    self.table = table
    self.end = end
    self.cut = cut
    self.packed = packed
    self.store = store
    // Samples lie behind each other as the planes of a third axis do, and small ones go together.
    let joinsSamples = extents.axes.count < 3 && !end.isDynamic && store == nil
    samples = joinsSamples ? 1 : extents.samples
    inputChannels = extents.inputChannels
    outputChannels = extents.outputChannels
    let axes = extents.axes
    var input = Triple(axes, missing: 1, \.input)
    var output = Triple(axes, missing: 1, \.output)
    if joinsSamples { (input.z, output.z) = (extents.samples, extents.samples) }
    self.input = input
    self.output = output
    window = Triple(axes, missing: 1, \.window)
    stride = Triple(axes, missing: 1, \.stride)
    dilation = Triple(axes, missing: 1, \.dilation)
    before = Triple(axes, missing: 0, \.before)
    let isPadded = axes.contains { axis in
      let last = axis.inputPosition(axis.output - 1, tap: axis.window - 1)
      return axis.before > 0 || last >= axis.input
    }
    let panel = table.columns
    let wholePanels = (inputChannels + panel - 1) / panel * panel
    pitch = cut.isDepthwise ? wholePanels : inputChannels
    step = table.splitsPanels ? panel : pitch
    copies = end.isInteger || isPadded || pitch != inputChannels
    guard boxByteCount(Triple(1, 1, 1)) != nil else { return nil }
  }

  /// Input positions that a box of output positions reads.
  private func reach(_ box: Triple) -> Triple {
    Triple(
      (box.z - 1) * stride.z + (window.z - 1) * dilation.z + 1,
      (box.y - 1) * stride.y + (window.y - 1) * dilation.y + 1,
      (box.x - 1) * stride.x + (window.x - 1) * dilation.x + 1)
  }

  /// - Returns: nil beyond the largest sensible box.
  private func boxByteCount(_ box: Triple) -> Int? {
    let reach = reach(box)
    var count = table.inputByteCount
    for extent in [pitch, reach.x, reach.y, reach.z] {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= Self.largestBoxByteCount else { return nil }
      count = product
    }
    return count
  }

  private struct Layout {
    var box = Triple(1, 1, 1)
    var boxes = Triple(1, 1, 1)
    /// Panels of one group that a chunk computes.
    var columnPanels = 0
    var columnBlocks = 1
    var multipliers = 0
    var taps = 0
    var panels = 0
    var prepared = 0
    /// Positions of the output, of one panel of channels.
    var stored = 0
    var sampleMultipliers = 0
    var threadByteCount = 0
    var byteCount = 0
  }

  private func layout(threads: Int) -> Layout {
    var box = output
    func halve() -> Bool {
      if box.z > 1 {
        box.z = (box.z + 1) / 2
      } else if box.y > 1 {
        box.y = (box.y + 1) / 2
      } else if box.x > 8 {
        box.x = (box.x + 1) / 2
      } else {
        return false
      }
      return true
    }
    func boxes() -> Triple {
      Triple(
        (output.z + box.z - 1) / box.z, (output.y + box.y - 1) / box.y,
        (output.x + box.x - 1) / box.x)
    }
    while (boxByteCount(box) ?? .max) > ProductBlocking.inputByteCount, halve() {}
    let outputRowByteCount = outputChannels * end.epilogue.output.elementType.byteCount
    while store == nil, box.product > 4 * ProductBlocking.leastRows,
      box.product * outputRowByteCount > ProductBlocking.outputByteCount, halve()
    {}
    // At the least extents a box may still be large; x can shrink to one position.
    while boxByteCount(box) == nil, box.x > 1 { box.x = (box.x + 1) / 2 }
    let panels = (cut.columns + table.columns - 1) / table.columns
    var layout = Layout()
    layout.columnPanels = panels
    let positions = Double(samples) * Double(output.product)
    let work = positions * Double(cut.taps * cut.depth) * Double(outputChannels)
    if threads > 1, work >= Double(ProductBlocking.leastSharedWork) {
      let wanted = threads * ProductBlocking.chunksPerThread
      while samples * boxes().product < wanted, box.product > ProductBlocking.leastRows, halve() {}
      while samples * boxes().product * layout.columnBlocks < wanted, cut.groups == 1,
        !cut.isDepthwise, layout.columnPanels > 2
      {
        layout.columnPanels = (layout.columnPanels + 1) / 2
        layout.columnBlocks = (panels + layout.columnPanels - 1) / layout.columnPanels
      }
    }
    layout.boxes = boxes()
    box = Triple(
      (output.z + layout.boxes.z - 1) / layout.boxes.z,
      (output.y + layout.boxes.y - 1) / layout.boxes.y,
      (output.x + layout.boxes.x - 1) / layout.boxes.x)
    layout.box = box
    layout.boxes = boxes()
    var scratch = ScratchLayout()
    layout.multipliers = scratch.reserve(end.isInteger ? 4 * outputChannels : 0)
    layout.taps = scratch.reserve(8 * cut.taps)
    layout.panels = scratch.reserve(
      packed == nil ? cut.groups * cut.packedByteCount(table) : 0)
    var thread = ScratchLayout()
    if copies { layout.prepared = thread.reserve(boxByteCount(box)! + table.slackByteCount) }
    if let store {
      layout.stored = thread.reserve(box.product * table.columns * store.elementByteCount)
    }
    if end.isDynamic { layout.sampleMultipliers = thread.reserve(4 * outputChannels) }
    layout.threadByteCount = thread.byteCount
    let perThread = scratch.reserve(threads * thread.byteCount)
    layout.prepared += perThread
    layout.stored += perThread
    layout.sampleMultipliers += perThread
    layout.byteCount = scratch.byteCount
    return layout
  }

  func scratchByteCount(threads: Int) -> Int { layout(threads: threads).byteCount }

  /// Writes the offsets of the taps in an input of the given extents.
  private func fill(_ taps: UnsafeMutablePointer<Int64>, in extents: Triple) {
    var next = taps
    for z in 0..<window.z {
      for y in 0..<window.y {
        for x in 0..<(cut.mergesInnermost ? 1 : window.x) {
          let row = z * dilation.z * extents.y + y * dilation.y
          next.pointee = Int64(row * extents.x * pitch + x * dilation.x * step)
          next += 1
        }
      }
    }
  }

  func run(_ memory: Kernel.Memory) {
    let layout = layout(threads: memory.threads.threadCount)
    let panels: UnsafeRawPointer
    if let packed {
      panels = UnsafeRawPointer(packed.base)
    } else {
      cut.pack(
        memory.inputs[ProductOperand.weights]!, elementByteCount: end.isInteger ? 1 : 4,
        table: table, into: memory.scratch + layout.panels)
      panels = UnsafeRawPointer(memory.scratch + layout.panels)
    }
    let multipliers = (memory.scratch + layout.multipliers).assumingMemoryBound(to: Float.self)
    if end.isInteger, !end.isDynamic {
      let scale = end.inputParameters(row: 0, of: memory).scale
      end.fillMultipliers(multipliers, count: outputChannels, inputScale: scale, of: memory)
    }
    let extents = copies ? reach(layout.box) : input
    let boxes = layout.boxes
    let taps = (memory.scratch + layout.taps).assumingMemoryBound(to: Int64.self)
    fill(taps, in: extents)
    memory.threads.run(chunks: samples * boxes.product * layout.columnBlocks) { (chunk, thread) in
      let index = chunk / layout.columnBlocks
      let box = Triple(
        index / boxes.x / boxes.y % boxes.z, index / boxes.x % boxes.y, index % boxes.x)
      multiply(
        memory, layout, sample: index / boxes.product, box: box,
        columnBlock: chunk % layout.columnBlocks, thread: thread, panels: panels,
        multipliers: multipliers, taps: taps, extents: extents)
    }
  }

  private func multiply(
    _ memory: Kernel.Memory, _ layout: Layout, sample: Int, box: Triple, columnBlock: Int,
    thread: Int, panels: UnsafeRawPointer, multipliers: UnsafePointer<Float>,
    taps: UnsafePointer<Int64>, extents: Triple
  ) {
    let first = Triple(box.z * layout.box.z, box.y * layout.box.y, box.x * layout.box.x)
    let count = Triple(
      min(layout.box.z, output.z - first.z), min(layout.box.y, output.y - first.y),
      min(layout.box.x, output.x - first.x))
    let threadOffset = thread * layout.threadByteCount
    let start =
      UnsafeRawPointer(memory.inputs[ProductOperand.input]!)
      + sample * input.product * inputChannels * end.inputElementByteCount
    let parameters = end.inputParameters(row: sample, of: memory)
    var ownMultipliers = multipliers
    if end.isDynamic {
      let own = (memory.scratch + layout.sampleMultipliers + threadOffset)
        .assumingMemoryBound(to: Float.self)
      end.fillMultipliers(own, count: outputChannels, inputScale: parameters.scale, of: memory)
      ownMultipliers = UnsafePointer(own)
    }
    let origin = Triple(
      first.z * stride.z - before.z, first.y * stride.y - before.y, first.x * stride.x - before.x)
    let place: UnsafeRawPointer
    if copies {
      let prepared = memory.scratch + layout.prepared + threadOffset
      table.prepare(
        qm_input_tile(
          input: start, input_extents: input.wide, origin: origin.wide, extents: extents.wide,
          channels: Int64(inputChannels), pitch: Int64(pitch), zero_point: parameters.zeroPoint,
          output: prepared))
      place = UnsafeRawPointer(prepared)
    } else {
      place = start + ((origin.z * input.y + origin.y) * input.x + origin.x) * inputChannels * 4
    }
    var block = qm_product_block()
    block.extents = count.wide
    block.input_strides = Triple(
      stride.z * extents.y * extents.x * pitch, stride.y * extents.x * pitch, stride.x * step
    ).wide
    // Of the output, or of the chunk's own part of it.
    let (rows, outputPitch) = store == nil ? (output, outputChannels) : (count, table.columns)
    block.output_strides = Triple(
      rows.y * rows.x * outputPitch, rows.x * outputPitch, outputPitch
    ).wide
    block.taps = taps
    block.zero_point = parameters.zeroPoint
    block.tap_count = Int64(cut.taps)
    block.depth = Int64(cut.depth)
    let firstColumn = columnBlock * layout.columnPanels * table.columns
    let endColumn = min(firstColumn + layout.columnPanels * table.columns, cut.columns)
    let position = ((sample * output.z + first.z) * output.y + first.y) * output.x + first.x
    let panelByteCount = table.panelByteCount(taps: cut.taps, depth: cut.depth)
    // What is stored with channels first goes panel by panel through memory of its own.
    let stored = store.map { _ in memory.scratch + layout.stored + threadOffset }
    let columnStep = store == nil ? endColumn - firstColumn : table.columns
    let panelStride = table.splitsPanels ? extents.x * table.columns : table.columns
    block.panel_stride = Int64(panelStride)
    for group in 0..<cut.groups {
      for panelColumn in Swift.stride(from: firstColumn, to: endColumn, by: columnStep) {
        let column = group * cut.columns + panelColumn
        let inputOffset =
          cut.isDepthwise ? panelColumn / table.columns * panelStride : group * cut.depth
        block.columns = Int64(min(columnStep, endColumn - panelColumn))
        block.input = place + inputOffset * table.inputByteCount
        block.weights =
          panels + group * cut.packedByteCount(table)
          + panelColumn / table.columns * panelByteCount
        block.epilogue = end.block(
          memory, element: position * outputChannels + column, column: column,
          multipliers: ownMultipliers, output: stored)
        table.multiply(block)
        if let store, let stored {
          storeFirst(
            store, stored, memory.outputs[0]!, sample: sample, first: first, count: count,
            firstChannel: column, channels: Int(block.columns))
        }
      }
    }
  }

  /// Moves the channels of a panel to their place, in as long parts as follow each other in memory.
  private func storeFirst(
    _ store: ChannelsFirstStore, _ stored: UnsafeRawPointer, _ target: UnsafeMutableRawPointer,
    sample: Int, first: Triple, count: Triple, firstChannel: Int, channels: Int
  ) {
    var part = Triple(1, 1, count.x)
    if count.x == output.x {
      part.y = count.y
      if count.y == output.y { part.z = count.z }
    }
    let size = store.elementByteCount
    for z in Swift.stride(from: 0, to: count.z, by: part.z) {
      for y in Swift.stride(from: 0, to: count.y, by: part.y) {
        let from = (z * count.y + y) * count.x * table.columns
        let position = ((first.z + z) * output.y + first.y + y) * output.x + first.x
        let place = (sample * outputChannels + firstChannel) * store.plane + position
        store.store(
          stored + from * size, pitch: table.columns, positions: part.product,
          channels: channels, to: target + place * size)
      }
    }
  }
}

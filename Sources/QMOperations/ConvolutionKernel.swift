import CQMKernels
import QMTensor

/// Convolution with channels last and with weights packed by output channels. The input is not
/// unrolled into a matrix of windows: each output element reads the taps of its window in the input
/// itself, or in a tile of the input that was copied once with its padding (codes are widened).
struct ConvolutionKernel: Sendable {
  /// Larger tiles are refused; the reference loops compute the convolution.
  static let largestTileByteCount = 1 << 30

  /// How the weights `[O, k…, C/groups]` are divided into taps and depth.
  struct Cut: Sendable {
    let groups: Int
    let taps: Int
    let depth: Int
    let columns: Int
    let isDepthwise: Bool
    /// Whether the innermost axis of the window is part of the depth, because its positions are
    /// contiguous in memory.
    let mergesInnermost: Bool

    /// - Parameter channels: input channels of a group, and all output channels.
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

    func panels(of table: ProductTable, elementByteCount: Int) -> ProductPanels {
      ProductPanels(
        table: table, taps: taps, depth: depth, columns: columns, matrixCount: groups,
        elementByteCount: elementByteCount)
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

    /// One number per spatial axis; outer axes that do not exist get `missing`.
    init(_ axes: [WindowAxis], missing: Int, _ number: (WindowAxis) -> Int) {
      let numbers = [Int](repeating: missing, count: 3 - axes.count) + axes.map(number)
      self.init(numbers[0], numbers[1], numbers[2])
    }

    var product: Int { z * y * x }
    var wide: (Int64, Int64, Int64) { (Int64(z), Int64(y), Int64(x)) }
  }

  /// The weights, one matrix per group.
  let panels: ProductPanels
  let end: KernelEpilogue
  let cut: Cut
  /// The ``panels``, if they were packed when the model was loaded.
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
  /// Elements per position of the prepared input.
  private let pitch: Int
  /// Elements from one position of a row of the prepared input to the next.
  private let step: Int
  /// Whether chunks copy their part of the input first.
  private let copies: Bool

  /// - Returns: nil if the tile of even one output position exceeds ``largestTileByteCount``.
  init?(
    panels: ProductPanels, end: KernelEpilogue, cut: Cut, extents: Convolution.Extents,
    packed: Buffer?, store: ChannelsFirstStore?
  ) {
    self.panels = panels
    self.end = end
    self.cut = cut
    self.packed = packed
    self.store = store
    // Samples are contiguous like the planes of a third axis, so that a tile can hold several.
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
    let panel = panels.table.columns
    let wholePanels = (inputChannels + panel - 1) / panel * panel
    pitch = cut.isDepthwise ? wholePanels : inputChannels
    step = panels.table.splitsPanels ? panel : pitch
    copies = end.isInteger || isPadded || pitch != inputChannels
    guard tileByteCount(Triple(1, 1, 1)) != nil else { return nil }
  }

  private var table: ProductTable { panels.table }
  private var loop: PanelLoop { PanelLoop(panels: panels, end: end, store: store) }

  /// The input positions that a tile of output positions reads.
  private func reach(_ tile: Triple) -> Triple {
    Triple(
      (tile.z - 1) * stride.z + (window.z - 1) * dilation.z + 1,
      (tile.y - 1) * stride.y + (window.y - 1) * dilation.y + 1,
      (tile.x - 1) * stride.x + (window.x - 1) * dilation.x + 1)
  }

  /// - Returns: nil beyond ``largestTileByteCount``.
  private func tileByteCount(_ tile: Triple) -> Int? {
    let reach = reach(tile)
    var count = table.inputByteCount
    for extent in [pitch, reach.x, reach.y, reach.z] {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= Self.largestTileByteCount else { return nil }
      count = product
    }
    return count
  }

  private struct Layout {
    var tile = Triple(1, 1, 1)
    var tiles = Triple(1, 1, 1)
    /// Number of panels of one group that a chunk computes.
    var columnPanels = 0
    var columnBlocks = 1
    var multipliers = 0
    var taps = 0
    var panels = 0
    var prepared = 0
    /// The outputs of one panel of channels, before they are stored with channels first.
    var stored = 0
    var sampleMultipliers = 0
    var threadByteCount = 0
    var byteCount = 0
  }

  private func layout(threads: Int) -> Layout {
    var tile = output
    func halve() -> Bool {
      if tile.z > 1 {
        tile.z = (tile.z + 1) / 2
      } else if tile.y > 1 {
        tile.y = (tile.y + 1) / 2
      } else if tile.x > 8 {
        tile.x = (tile.x + 1) / 2
      } else {
        return false
      }
      return true
    }
    func tiles() -> Triple {
      Triple(
        (output.z + tile.z - 1) / tile.z, (output.y + tile.y - 1) / tile.y,
        (output.x + tile.x - 1) / tile.x)
    }
    let mostInput =
      cut.isDepthwise ? ProductBlocking.depthwiseInputByteCount : ProductBlocking.inputByteCount
    while (tileByteCount(tile) ?? .max) > mostInput, halve() {}
    let outputRowByteCount = outputChannels * end.epilogue.output.elementType.byteCount
    while store == nil, tile.product > 4 * ProductBlocking.leastRows,
      tile.product * outputRowByteCount > ProductBlocking.outputByteCount, halve()
    {}
    // Even the smallest tile so far may be too large; x can shrink to one position.
    while tileByteCount(tile) == nil, tile.x > 1 { tile.x = (tile.x + 1) / 2 }
    let panelCount = panels.panelCount
    var layout = Layout()
    layout.columnPanels = panelCount
    let positions = Double(samples) * Double(output.product)
    let work = positions * Double(cut.taps * cut.depth) * Double(outputChannels)
    if threads > 1, work >= Double(ProductBlocking.leastSharedWork) {
      let wanted = threads * ProductBlocking.chunksPerThread
      while samples * tiles().product < wanted, tile.product > ProductBlocking.leastRows, halve() {}
      while samples * tiles().product * layout.columnBlocks < wanted, cut.groups == 1,
        !cut.isDepthwise, layout.columnPanels > 2
      {
        layout.columnPanels = (layout.columnPanels + 1) / 2
        layout.columnBlocks = (panelCount + layout.columnPanels - 1) / layout.columnPanels
      }
    }
    layout.tiles = tiles()
    tile = Triple(
      (output.z + layout.tiles.z - 1) / layout.tiles.z,
      (output.y + layout.tiles.y - 1) / layout.tiles.y,
      (output.x + layout.tiles.x - 1) / layout.tiles.x)
    layout.tile = tile
    layout.tiles = tiles()
    var scratch = ScratchLayout()
    layout.multipliers = scratch.reserve(end.isInteger ? 4 * outputChannels : 0)
    layout.taps = scratch.reserve(8 * cut.taps)
    layout.panels = scratch.reserve(packed == nil ? panels.byteCount : 0)
    var thread = ScratchLayout()
    if copies { layout.prepared = thread.reserve(tileByteCount(tile)! + table.slackByteCount) }
    layout.stored = thread.reserve(loop.storedByteCount(rows: tile.product))
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

  /// Writes the offsets of the taps in a part of the input with the given extents.
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
    let weights: UnsafeRawPointer
    if let packed {
      weights = UnsafeRawPointer(packed.base)
    } else {
      let given = UnsafeRawPointer(memory.inputs[ProductOperand.weights]!)
      for group in 0..<cut.groups {
        panels.pack(
          matrix: group, given, .channelsFirst, into: memory.scratch + layout.panels)
      }
      weights = UnsafeRawPointer(memory.scratch + layout.panels)
    }
    let multipliers = (memory.scratch + layout.multipliers).assumingMemoryBound(to: Float.self)
    if end.isInteger, !end.isDynamic {
      let scale = end.inputParameters(row: 0, of: memory).scale
      end.fillMultipliers(multipliers, count: outputChannels, inputScale: scale, of: memory)
    }
    let extents = copies ? reach(layout.tile) : input
    let tiles = layout.tiles
    let taps = (memory.scratch + layout.taps).assumingMemoryBound(to: Int64.self)
    fill(taps, in: extents)
    memory.threads.run(chunks: samples * tiles.product * layout.columnBlocks) { (chunk, thread) in
      let index = chunk / layout.columnBlocks
      let tile = Triple(
        index / tiles.x / tiles.y % tiles.z, index / tiles.x % tiles.y, index % tiles.x)
      multiply(
        memory, layout, sample: index / tiles.product, tile: tile,
        columnBlock: chunk % layout.columnBlocks, thread: thread, weights: weights,
        multipliers: multipliers, taps: taps, extents: extents)
    }
  }

  private func multiply(
    _ memory: Kernel.Memory, _ layout: Layout, sample: Int, tile: Triple, columnBlock: Int,
    thread: Int, weights: UnsafeRawPointer, multipliers: UnsafePointer<Float>,
    taps: UnsafePointer<Int64>, extents: Triple
  ) {
    let first = Triple(tile.z * layout.tile.z, tile.y * layout.tile.y, tile.x * layout.tile.x)
    let count = Triple(
      min(layout.tile.z, output.z - first.z), min(layout.tile.y, output.y - first.y),
      min(layout.tile.x, output.x - first.x))
    let threadOffset = thread * layout.threadByteCount
    let (scale, zeroPoint) = end.inputParameters(row: sample, of: memory)
    var ownMultipliers = multipliers
    if end.isDynamic {
      let own = (memory.scratch + layout.sampleMultipliers + threadOffset)
        .assumingMemoryBound(to: Float.self)
      end.fillMultipliers(own, count: outputChannels, inputScale: scale, of: memory)
      ownMultipliers = UnsafePointer(own)
    }
    let place = inputTile(
      memory, sample: sample, first: first, extents: extents, zeroPoint: zeroPoint,
      prepared: memory.scratch + layout.prepared + threadOffset)
    var block = qm_product_block()
    block.extents = count.wide
    block.input_strides =
      Triple(
        stride.z * extents.y * extents.x * pitch, stride.y * extents.x * pitch, stride.x * step
      ).wide
    // Strides of the whole output, or of the chunk's own copy of its part.
    let rows = store == nil ? output : count
    let outputPitch = loop.outputPitch(columns: outputChannels)
    block.output_strides =
      Triple(
        rows.y * rows.x * outputPitch, rows.x * outputPitch, outputPitch
      ).wide
    block.taps = taps
    block.zero_point = zeroPoint
    block.tap_count = Int64(cut.taps)
    block.depth = Int64(cut.depth)
    let panelStride = table.splitsPanels ? extents.x * table.columns : table.columns
    block.panel_stride = Int64(panelStride)
    let firstColumn = columnBlock * layout.columnPanels * table.columns
    let columns =
      firstColumn..<min(firstColumn + layout.columnPanels * table.columns, cut.columns)
    let position = ((sample * output.z + first.z) * output.y + first.y) * output.x + first.x
    let stored = memory.scratch + layout.stored + threadOffset
    for group in 0..<cut.groups {
      let inputOffset =
        cut.isDepthwise ? firstColumn / table.columns * panelStride : group * cut.depth
      block.input = place + inputOffset * table.inputByteCount
      let chunk = PanelLoop.Chunk(
        matrix: group, columns: columns, firstChannel: group * cut.columns,
        firstElement: position * outputChannels + group * cut.columns,
        inputStep: cut.isDepthwise ? panelStride * table.inputByteCount : 0)
      loop.run(
        chunk, &block, memory, weights: weights, multipliers: ownMultipliers, stored: stored
      ) { (store, channel, channels) in
        storeFirst(
          store, stored, memory.outputs[0]!, sample: sample, first: first, count: count,
          firstChannel: channel, channels: channels)
      }
    }
  }

  /// The address where a tile of outputs reads: a copy of its part of the input, or the input
  /// itself.
  /// - Parameters:
  ///   - first: the tile's first position in the output.
  ///   - extents: extents of the part of the input.
  ///   - prepared: memory for a copy.
  private func inputTile(
    _ memory: Kernel.Memory, sample: Int, first: Triple, extents: Triple, zeroPoint: Int32,
    prepared: UnsafeMutableRawPointer
  ) -> UnsafeRawPointer {
    let start =
      UnsafeRawPointer(memory.inputs[ProductOperand.input]!)
      + sample * input.product * inputChannels * end.inputElementByteCount
    let origin = Triple(
      first.z * stride.z - before.z, first.y * stride.y - before.y, first.x * stride.x - before.x)
    guard copies else {
      return start + ((origin.z * input.y + origin.y) * input.x + origin.x) * inputChannels * 4
    }
    table.prepare(
      qm_input_tile(
        input: start, input_extents: input.wide, origin: origin.wide, extents: extents.wide,
        channels: Int64(inputChannels), pitch: Int64(pitch), zero_point: zeroPoint,
        output: prepared))
    return UnsafeRawPointer(prepared)
  }

  /// Stores the channels of a panel in the output, in parts that are as long as the output is
  /// contiguous.
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

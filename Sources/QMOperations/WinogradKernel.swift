import CQMKernels
import QMTensor

/// Convolution of codes with a 3 × 3 window and stride 1, channels last, by Winograd's
/// F(4 × 4, 3 × 3): a quarter of the multiplications, and exactly the same sums. See qm_winograd.h.
struct WinogradKernel: Sendable {
  /// Transformed weights, which fit 16 bits.
  struct Weights: Hashable, @unchecked Sendable {
    fileprivate let table: UnsafePointer<qm_winograd>
    let channels: Int
    let columns: Int

    /// With fewer channels, most of a vector would be empty.
    private static let leastChannels = 8
    private static let leastColumns = 8

    /// - Returns: nil for another form of convolution, or for weights that are not known before the
    ///   run.
    init?(
      _ convolution: Convolution, _ input: ElementType, _ weights: Operand, kernels: KernelSet
    ) {
      guard let set = kernels.number, input == .int8, let constant = weights.constant,
        weights.type.elementType == .int8, case .weights = weights.type.quantization,
        convolution.order == .channelsLast, !convolution.isTransposed, convolution.groups == 1,
        constant.shape.count == 4, constant.shape[1...2].allSatisfy({ $0 == 3 }),
        convolution.strides.allSatisfy({ $0 == 1 }),
        convolution.dilations.allSatisfy({ $0 == 1 }),
        constant.shape[3] >= Self.leastChannels, constant.shape[0] >= Self.leastColumns,
        GroupScales(weights.type.quantization, shape: constant.shape) == nil,
        let table = qm_winograd_int8(set)
      else { return nil }
      channels = constant.shape[3]
      columns = constant.shape[0]
      self.table = table
    }

    var packedByteCount: Int {
      Int(table.pointee.packed_bytes(Int64(channels), Int64(columns)))
    }

    /// - Returns: nil if a sum may reach `QM_WINOGRAD_BOUND`.
    func pack(_ constant: Tensor) throws(QMError) -> PackedWeights? {
      let sums = AccumulatorBound.magnitudes(of: constant, .channelThenWindow, zeroPoint: 0)
      let isExact = sums.allSatisfy { 255 * $0 < Int(QM_WINOGRAD_BOUND) }
      guard isExact, let codes = constant.bytes.baseAddress else { return nil }
      let buffer = try Buffer.pages(byteCount: packedByteCount)
      table.pointee.pack(
        codes.assumingMemoryBound(to: Int8.self), Int64(channels), Int64(columns), buffer.base)
      return PackedWeights(scheme: .winograd(self), buffer: buffer)
    }
  }

  /// Largest number of tiles of a chunk: their inputs and products stay in the L2 cache.
  private static let largestBlock = 30
  /// About as many tiles as the kernels compute at a time: chunks are multiples of it.
  private static let tileGroup = 6
  /// Chunks per thread; more would not pay, because every chunk reads all weights.
  private static let chunksPerThread = 2
  /// With more tiles across, storing with channels first is no faster.
  private static let mostStoredTiles = 48

  let weights: Weights
  let packed: Buffer
  let end: KernelEpilogue
  let store: ChannelsFirstStore?
  let samples: Int
  private let input: (height: Int, width: Int)
  private let output: (height: Int, width: Int)
  private let before: (y: Int, x: Int)

  /// - Returns: nil if `store` would be no faster.
  init?(
    _ weights: Weights, packed: Buffer, end: KernelEpilogue, extents: Convolution.Extents,
    store: ChannelsFirstStore?
  ) {
    self.weights = weights
    self.packed = packed
    self.end = end
    self.store = store
    samples = extents.samples
    let (y, x) = (extents.axes[0], extents.axes[1])
    input = (y.input, x.input)
    output = (y.output, x.output)
    before = (y.before, x.before)
    guard store == nil || tilesAcross <= Self.mostStoredTiles else { return nil }
  }

  private var tilesAcross: Int { (output.width + Self.tileSize - 1) / Self.tileSize }
  private static let tileSize = Int(QM_WINOGRAD_TILE)

  var name: String { String(cString: weights.table.pointee.name) }

  private struct Layout {
    var multipliers = 0
    var thread = 0
    var threadByteCount = 0
    var sampleMultipliers = 0
    /// The output rows of a chunk, before they are stored with channels first.
    var stored = 0
    var byteCount = 0
    /// Tiles of a sample.
    var tiles = 0
    /// Tiles of a unit: a chunk has whole units, which are groups of tiles, or rows of tiles if
    /// whole rows are stored.
    var unit = 0
    /// Units of a sample.
    var units = 0
    /// Chunks of a sample.
    var chunks = 0

    func tiles(ofChunk chunk: Int) -> Range<Int> {
      let first = chunk * units / chunks * unit
      return first..<min(tiles, (chunk + 1) * units / chunks * unit)
    }
  }

  private func layout(threads: Int) -> Layout {
    var layout = Layout()
    layout.tiles = tilesAcross * ((output.height + Self.tileSize - 1) / Self.tileSize)
    layout.unit = store == nil ? Self.tileGroup : tilesAcross
    layout.units = (layout.tiles + layout.unit - 1) / layout.unit
    let largest = max(1, Self.largestBlock / layout.unit)
    layout.chunks = (layout.units + largest - 1) / largest
    if threads > 1 {
      // The same number of chunks for each thread.
      let wanted = max(layout.chunks * samples, threads * Self.chunksPerThread)
      let even = (wanted + threads - 1) / threads * threads
      layout.chunks = min(layout.units, (even + samples - 1) / samples)
    }
    let most = (layout.units + layout.chunks - 1) / layout.chunks * layout.unit
    var scratch = ScratchLayout()
    layout.multipliers = scratch.reserve(4 * weights.columns)
    var thread = ScratchLayout()
    _ = thread.reserve(
      Int(weights.table.pointee.scratch_bytes(Int64(weights.channels), Int64(most))))
    layout.sampleMultipliers = thread.reserve(end.isDynamic ? 4 * weights.columns : 0)
    if let store {
      let rows = most / layout.unit * Self.tileSize
      layout.stored = thread.reserve(
        rows * output.width * weights.columns * store.elementByteCount)
    }
    layout.threadByteCount = thread.byteCount
    layout.thread = scratch.reserve(threads * thread.byteCount)
    layout.byteCount = scratch.byteCount
    return layout
  }

  func scratchByteCount(threads: Int) -> Int { layout(threads: threads).byteCount }

  func run(_ memory: Kernel.Memory) {
    let layout = layout(threads: memory.threads.threadCount)
    let multipliers = (memory.scratch + layout.multipliers).assumingMemoryBound(to: Float.self)
    if !end.isDynamic {
      let scale = end.inputParameters(row: 0, of: memory).scale
      end.fillMultipliers(multipliers, count: weights.columns, inputScale: scale, of: memory)
    }
    memory.threads.run(chunks: samples * layout.chunks) { (chunk, thread) in
      let (sample, number) = chunk.quotientAndRemainder(dividingBy: layout.chunks)
      let scratch = memory.scratch + layout.thread + thread * layout.threadByteCount
      let parameters = end.inputParameters(row: sample, of: memory)
      var ownMultipliers = multipliers
      if end.isDynamic {
        ownMultipliers = (scratch + layout.sampleMultipliers).assumingMemoryBound(to: Float.self)
        end.fillMultipliers(
          ownMultipliers, count: weights.columns, inputScale: parameters.scale, of: memory)
      }
      let tiles = layout.tiles(ofChunk: number)
      let codes = memory.inputs[ProductOperand.input]!.assumingMemoryBound(to: Int8.self)
      var block = qm_winograd_block()
      block.input = UnsafePointer(codes + sample * input.height * input.width * weights.channels)
      block.height = Int64(input.height)
      block.width = Int64(input.width)
      block.channels = Int64(weights.channels)
      block.zero_point = parameters.zeroPoint
      block.before_y = Int64(before.y)
      block.before_x = Int64(before.x)
      block.output_height = Int64(output.height)
      block.output_width = Int64(output.width)
      block.columns = Int64(weights.columns)
      block.first_tile = Int64(tiles.lowerBound)
      block.tile_count = Int64(tiles.count)
      block.weights = UnsafeRawPointer(packed.base)
      let sampleElement = sample * output.height * output.width * weights.columns
      block.scratch = scratch
      guard let store else {
        block.epilogue = end.block(
          memory, element: sampleElement, column: 0, multipliers: ownMultipliers)
        weights.table.pointee.convolve(&block)
        return
      }
      // The kernel counts rows from the first of the sample; the memory begins with the chunk's.
      let firstRow = tiles.lowerBound / layout.unit * Self.tileSize
      let endRow = min(output.height, tiles.upperBound / layout.unit * Self.tileSize)
      let firstPosition = firstRow * output.width
      let stored = scratch + layout.stored
      block.epilogue = end.block(
        memory, element: sampleElement, column: 0, multipliers: ownMultipliers,
        output: stored - firstPosition * weights.columns * store.elementByteCount)
      weights.table.pointee.convolve(&block)
      store.store(
        stored, pitch: weights.columns, positions: (endRow - firstRow) * output.width,
        channels: weights.columns,
        to: memory.outputs[0]! + (sampleElement + firstPosition) * store.elementByteCount)
    }
  }
}

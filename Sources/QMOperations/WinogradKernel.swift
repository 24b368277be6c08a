import CQMKernels
import QMTensor

/// Convolution of codes with a window of 3 × 3 and steps of 1, channels last, by Winograd's
/// F(4 × 4, 3 × 3): a quarter of the multiplications, and the same sums. See qm_winograd.h.
struct WinogradKernel: Sendable {
  /// Transformed weights keep within 16 bits and may be used in place of the given ones.
  struct Weights: @unchecked Sendable {
    fileprivate let table: UnsafePointer<qm_winograd>
    let channels: Int
    let columns: Int

    /// Channels below which most of a vector would be empty.
    private static let leastChannels = 8
    private static let leastColumns = 8

    /// - Returns: nil where the direct way is needed: another form of convolution, or weights that
    ///   are not known before the run.
    init?(
      _ convolution: Convolution, _ input: ElementType, _ weights: Operand, kernels: KernelSet
    ) {
      guard let set = kernels.productSet, input == .int8, let constant = weights.constant,
        weights.type.elementType == .int8, case .weights = weights.type.quantization,
        convolution.order == .channelsLast, !convolution.isTransposed, convolution.groups == 1,
        constant.shape.count == 4, constant.shape[1...2].allSatisfy({ $0 == 3 }),
        convolution.strides.allSatisfy({ $0 == 1 }),
        convolution.dilations.allSatisfy({ $0 == 1 }),
        constant.shape[3] >= Self.leastChannels, constant.shape[0] >= Self.leastColumns,
        let table = qm_winograd_int8(set)
      else { return nil }
      channels = constant.shape[3]
      columns = constant.shape[0]
      self.table = table
    }

    var packedByteCount: Int {
      Int(table.pointee.packed_bytes(Int64(channels), Int64(columns)))
    }

    /// - Returns: nil where sums may be too large.
    func pack(_ constant: Tensor) throws(QMError) -> Buffer? {
      let depth = 9 * channels
      let isExact = constant.withElements(as: Int8.self) { codes in
        (0..<columns).allSatisfy { column in
          var sum = 0
          for code in codes[(column * depth)..<((column + 1) * depth)] {
            sum += Int(code.magnitude)
          }
          return 255 * sum < Int(QM_WINOGRAD_BOUND)
        }
      }
      guard isExact, let codes = constant.bytes.baseAddress else { return nil }
      let buffer = try Buffer.pages(byteCount: packedByteCount)
      table.pointee.pack(
        codes.assumingMemoryBound(to: Int8.self), Int64(channels), Int64(columns), buffer.base)
      return buffer
    }
  }

  /// Tiles that go together: a multiple of the rows of every kernel's tiles, whose inputs and
  /// products stay in the second cache.
  private static let tileBlock = 24

  let weights: Weights
  let packed: Buffer
  let end: KernelEpilogue
  let samples: Int
  private let input: (height: Int, width: Int)
  private let output: (height: Int, width: Int)
  private let before: (y: Int, x: Int)

  init(_ weights: Weights, packed: Buffer, end: KernelEpilogue, extents: Convolution.Extents) {
    self.weights = weights
    self.packed = packed
    self.end = end
    samples = extents.samples
    let (y, x) = (extents.axes[0], extents.axes[1])
    input = (y.input, x.input)
    output = (y.output, x.output)
    before = (y.before, x.before)
  }

  var name: String { String(cString: weights.table.pointee.name) }

  private struct Layout {
    var multipliers = 0
    var thread = 0
    var threadByteCount = 0
    var sampleMultipliers = 0
    var byteCount = 0
    var tiles = 0
    var tileBlock = 0
  }

  private func layout(threads: Int) -> Layout {
    let size = Int(QM_WINOGRAD_TILE)
    var layout = Layout()
    layout.tiles = ((output.height + size - 1) / size) * ((output.width + size - 1) / size)
    let wanted = threads > 1 ? threads * ProductBlocking.chunksPerThread : 1
    let share = (samples * layout.tiles + wanted - 1) / wanted
    layout.tileBlock = evenPart(of: layout.tiles, largest: max(6, min(Self.tileBlock, share)))
    var scratch = ScratchLayout()
    layout.multipliers = scratch.reserve(4 * weights.columns)
    var thread = ScratchLayout()
    _ = thread.reserve(
      Int(
        weights.table.pointee.scratch_bytes(Int64(weights.channels), Int64(layout.tileBlock))))
    layout.sampleMultipliers = thread.reserve(end.isDynamic ? 4 * weights.columns : 0)
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
    let blocks = (layout.tiles + layout.tileBlock - 1) / layout.tileBlock
    memory.threads.run(chunks: samples * blocks) { (chunk, thread) in
      let (sample, number) = chunk.quotientAndRemainder(dividingBy: blocks)
      let scratch = memory.scratch + layout.thread + thread * layout.threadByteCount
      let parameters = end.inputParameters(row: sample, of: memory)
      var ownMultipliers = multipliers
      if end.isDynamic {
        ownMultipliers = (scratch + layout.sampleMultipliers).assumingMemoryBound(to: Float.self)
        end.fillMultipliers(
          ownMultipliers, count: weights.columns, inputScale: parameters.scale, of: memory)
      }
      let first = number * layout.tileBlock
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
      block.first_tile = Int64(first)
      block.tile_count = Int64(min(layout.tileBlock, layout.tiles - first))
      block.weights = UnsafeRawPointer(packed.base)
      block.epilogue = end.block(
        memory, element: sample * output.height * output.width * weights.columns, column: 0,
        multipliers: ownMultipliers)
      block.scratch = scratch
      weights.table.pointee.convolve(&block)
    }
  }
}

import CQMKernels
import QMTensor

/// `output[row][column] = input[column][row]`, elements of `elementByteCount` bytes; pitches count
/// the elements from one row of either side to the next. For parts of a tensor that are still in
/// the cache.
func transposeBlock(
  _ set: qm_kernel_set, elementByteCount size: Int, rows: Int, columns: Int,
  from input: UnsafeRawPointer, pitch inputPitch: Int, to output: UnsafeMutableRawPointer,
  pitch outputPitch: Int
) {
  let extents = (rows, columns)
  let outputStrides = (outputPitch * size, size)
  let inputStrides = (size, inputPitch * size)
  withUnsafeBytes(of: extents) { (extents) in
    withUnsafeBytes(of: outputStrides) { (outputStrides) in
      withUnsafeBytes(of: inputStrides) { (inputStrides) in
        func numbers(_ bytes: UnsafeRawBufferPointer) -> UnsafePointer<Int> {
          bytes.baseAddress!.assumingMemoryBound(to: Int.self)
        }
        qm_copy_rows(
          set, 2, Int32(size), numbers(extents), numbers(outputStrides), numbers(inputStrides),
          output.assumingMemoryBound(to: CChar.self), input.assumingMemoryBound(to: CChar.self), 0,
          rows)
      }
    }
  }
}

/// How a kernel with channels last leaves its output with channels first: each chunk makes some of
/// it in scratch memory, and moves it to its place while it is in the cache.
struct ChannelsFirstStore: Sendable {
  private let set: qm_kernel_set
  let elementByteCount: Int
  /// Positions of one sample.
  let plane: Int

  /// - Parameter output: with channels last.
  /// - Returns: nil where `permutation` is another than that to channels first.
  init?(_ output: ValueType, _ permutation: [Int], kernels: KernelSet) {
    guard let set = kernels.number, let extents = output.shape.extents,
      extents.count >= 3,
      permutation == [0, extents.count - 1] + Array(1..<(extents.count - 1))
    else { return nil }
    self.set = set
    elementByteCount = output.elementType.byteCount
    plane = extents.dropFirst().dropLast().reduce(1, *)
  }

  /// - Parameters:
  ///   - block: `[positions][pitch]`, of which `channels` are stored.
  ///   - output: place of the first position in the first of the channels.
  func store(
    _ block: UnsafeRawPointer, pitch: Int, positions: Int, channels: Int,
    to output: UnsafeMutableRawPointer
  ) {
    transposeBlock(
      set, elementByteCount: elementByteCount, rows: channels, columns: positions, from: block,
      pitch: pitch, to: output, pitch: plane)
  }
}

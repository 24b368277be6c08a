import CQMKernels
import QMTensor

/// `output[row][column] = input[column][row]`, for elements of `elementByteCount` bytes. A pitch is
/// the number of elements from one row of a side to the next. For parts of a tensor that are in the
/// cache.
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

/// Stores the output of a kernel that computes with channels last in the order of channels first:
/// each chunk writes its part to scratch memory, and transposes it into the output while it is in
/// the cache.
struct ChannelsFirstStore: Sendable {
  private let set: qm_kernel_set
  let elementByteCount: Int
  /// Positions of one sample.
  let plane: Int

  /// - Parameter output: type of the output with channels last.
  /// - Returns: nil if `permutation` is not the one to channels first.
  init?(_ output: ValueType, _ permutation: [Int], kernels: KernelSet) {
    guard let set = kernels.number, let shape = output.shape.extents,
      shape.count >= 3,
      permutation == [0, shape.count - 1] + Array(1..<(shape.count - 1))
    else { return nil }
    self.set = set
    elementByteCount = output.elementType.byteCount
    plane = shape.dropFirst().dropLast().reduce(1, *)
  }

  /// - Parameters:
  ///   - block: `[positions][pitch]`, of which the first `channels` of each row are stored.
  ///   - output: address of the first position in the first of the channels.
  func store(
    _ block: UnsafeRawPointer, pitch: Int, positions: Int, channels: Int,
    to output: UnsafeMutableRawPointer
  ) {
    transposeBlock(
      set, elementByteCount: elementByteCount, rows: channels, columns: positions, from: block,
      pitch: pitch, to: output, pitch: plane)
  }
}

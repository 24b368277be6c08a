/// Sizes of the chunks into which a product is divided. Results do not depend on them.
enum ProductBlocking {
  /// Bytes of input per chunk. Each panel of weights reads the input again, so it should stay in
  /// the L2 cache.
  static let inputByteCount = 128 << 10
  /// The same of a depthwise convolution, whose panels of channels read their part of the input once:
  /// rows that two chunks read are copied twice.
  static let depthwiseInputByteCount = 512 << 10
  /// Bytes of output per chunk. Each panel of weights writes to all rows of the output again.
  static let outputByteCount = 256 << 10
  /// Chunks per thread, so that a late thread delays the others little.
  static let chunksPerThread = 4
  /// Chunks are not divided below this many rows for the sake of more threads.
  static let leastRows = 48
  /// Multiply-adds, a few microseconds of work: with fewer, threads would wait longer for each
  /// other than they work.
  static let leastSharedWork = 1 << 17
}

/// The size of each part when `count` is divided evenly into the fewest parts of at most `largest`.
func evenPart(of count: Int, largest: Int) -> Int {
  let parts = (count + largest - 1) / largest
  return (count + parts - 1) / parts
}

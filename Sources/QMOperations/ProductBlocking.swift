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

import QMOperations
import QMTensor

/// First and second moments of the windows x by which the weights of a product are multiplied, over all samples: sums of each
/// element, and of the products of every two elements.
///
///     sums[i] = Σ x[i]        products[i, j] = Σ x[i] · x[j]
///
/// If E is a change of the weights of one output channel, the squared change of the output, summed
/// over all windows, is E · products · Eᵀ. GPTQ works on these matrices.
///
/// The sums do not depend on the number of threads, nor on the order of samples or their division
/// into parts. At most 2,048 windows of one sample count. They are taken 512 at a time, in their order; their
/// products are added in float32, with one rounding per step; the result is rounded to units of
/// 2⁻⁴⁰ and added to 128-bit integers. Elements beyond ±2²⁶ are clipped to it, NaN counts as 0;
/// ``clippedCount`` counts both.
///
/// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative
/// Pre-trained Transformers", section 3.
public struct SecondMoments: Hashable, Sendable {
  /// Groups of the convolution, each with its own sums; 1 for other products.
  public let groupCount: Int
  /// Elements of a window.
  public let length: Int
  /// Number of windows.
  public internal(set) var count = 0
  /// Number of input elements that were NaN or beyond ±2²⁶.
  public internal(set) var clippedCount = 0
  /// `[groupCount, length]`, in units of 2⁻⁴⁰.
  let sums: WideIntegers
  /// For each group the upper triangles of the diagonal blocks, row by row, in units of 2⁻⁴⁰.
  let products: WideIntegers

  /// A window up to this length has one block; a longer one has blocks of ``blockLength``. This
  /// does not depend on the memory budget, so that files can be merged.
  static let mostTogether = 4096
  /// Products with longer windows have no second moments: hundreds of megabytes would not help them.
  static let largestLength = 1 << 15
  static let blockLength = 1024
  /// Number of windows whose products are added in float32.
  static let windowCount = 512
  /// Largest number of windows of one sample that count. Neighbours in a picture resemble each other,
  /// so that more would hardly tell more.
  static let mostWindows = 2048
  private static let unit = 0x1p-40
  private static let largest: Float = 0x1p26

  /// - Throws: `outOfMemory`.
  init(groupCount: Int, length: Int) throws(QMError) {
    self.groupCount = groupCount
    self.length = length
    sums = try WideIntegers(count: groupCount * length)
    products = try WideIntegers(
      count: groupCount * SecondMoments.triangleCount(length: length))
  }

  /// Ranges of elements of a window: products exist of two elements in the same range. Windows of
  /// up to 4096 elements have a single range.
  public var blocks: [Range<Int>] { SecondMoments.blocks(length: length) }

  private static func blocks(length: Int) -> [Range<Int>] {
    let step = length > mostTogether ? blockLength : max(length, 1)
    return stride(from: 0, to: length, by: step).map { $0..<min($0 + step, length) }
  }

  static func triangleCount(length: Int) -> Int {
    blocks(length: length).reduce(0) { $0 + $1.count * ($1.count + 1) / 2 }
  }

  /// Bytes of memory that the sums take.
  static func byteCount(groupCount: Int, length: Int) -> Int {
    16 * groupCount * (length + triangleCount(length: length))
  }

  /// Means of the elements, `[groupCount, length]`.
  public var means: [Double] {
    sums.elements.map { count == 0 ? 0 : Double($0) * SecondMoments.unit / Double(count) }
  }

  /// Means of the products within a block, a symmetric matrix `[block.count, block.count]`.
  /// - Parameters:
  ///   - block: index in ``blocks``.
  ///   - group: index of the group, below ``groupCount``.
  public func meanProducts(block: Int, group: Int) -> [Double] {
    let blocks = blocks
    let side = blocks[block].count
    var next = group * SecondMoments.triangleCount(length: length)
    for earlier in blocks[..<block] { next += earlier.count * (earlier.count + 1) / 2 }
    var matrix = [Double](repeating: 0, count: side * side)
    for row in 0..<side {
      for column in row..<side {
        let mean =
          count == 0 ? 0 : Double(products.elements[next]) * SecondMoments.unit / Double(count)
        matrix[row * side + column] = mean
        matrix[column * side + row] = mean
        next += 1
      }
    }
    return matrix
  }

  mutating func merge(_ other: SecondMoments) {
    guard other.groupCount == groupCount, other.length == length else { return }
    count += other.count
    clippedCount += other.clippedCount
    sums.add(other.sums)
    products.add(other.products)
  }

  /// The float32 sums over at most ``windowCount`` windows of one sample.
  struct Part: Sendable {
    let windowCount: Int
    /// `[groupCount, length]`.
    let sums: [Double]
    var panels: [Panel] = []
  }

  /// Products of a range of elements with all elements from the first of them to the end of their
  /// block.
  struct Panel: Sendable {
    let groups: Range<Int>
    let firstRow: Int
    /// `[groups.count, rows, columns]`.
    let products: Tensor
  }

  mutating func add(_ part: Part) {
    count += part.windowCount
    for (index, sum) in part.sums.enumerated() { sums.elements[index] &+= SecondMoments.fixed(sum) }
    for panel in part.panels { add(panel) }
  }

  private mutating func add(_ panel: Panel) {
    let blocks = blocks
    guard let number = blocks.firstIndex(where: { $0.contains(panel.firstRow) }) else { return }
    let before = blocks[..<number].reduce(0) { $0 + $1.count * ($1.count + 1) / 2 }
    let triangle = SecondMoments.triangleCount(length: length)
    let (side, firstInBlock) = (blocks[number].count, panel.firstRow - blocks[number].lowerBound)
    let (rows, columns) = (panel.products.shape[1], panel.products.shape[2])
    panel.products.withElements(as: Float.self) { numbers in
      let products = products.elements
      for (index, group) in panel.groups.enumerated() {
        for row in 0..<rows {
          let inBlock = firstInBlock + row
          // Position of the row's diagonal element.
          let start = group * triangle + before + inBlock * (2 * side - inBlock + 1) / 2
          let own = (index * rows + row) * columns
          for column in row..<columns {
            products[start + column - row] &+=
              SecondMoments.fixed(Double(numbers[own + column]))
          }
        }
      }
    }
  }

  /// The number in units of 2⁻⁴⁰, rounded to the nearest.
  private static func fixed(_ number: Double) -> Int128 {
    let scaled = number / unit
    if abs(scaled) < 0x1p62 { return Int128(Int64(scaled.rounded(.toNearestOrEven))) }
    let high = Int64(scaled * 0x1p-48)
    return Int128(high) << 48 + Int128(Int64(scaled - Double(high) * 0x1p48))
  }

  // MARK: One sample

  /// Calls `body` with the sums over every ``windowCount`` windows of an input.
  /// - Parameters:
  ///   - shape: shape of the input, which the product's type rule accepts.
  ///   - source: where the input comes from.
  /// - Returns: the number of clipped elements of the input.
  static func forEachPart(
    of input: UnsafeBufferPointer<Float>, _ shape: [Int], _ windows: InputWindows,
    _ source: InputWindows.Source, kernels: KernelSet, _ body: (Part) -> Void
  ) throws(QMError) -> Int {
    // The comparison is false for NaN, which counts as clipped.
    let clippedCount = input.reduce(0) { abs($1) <= largest ? $0 : $0 + 1 }
    if clippedCount > 0 {
      let bounded = try Tensor([input.count], as: Float.self) { numbers in
        for (index, number) in input.enumerated() {
          numbers[index] = number.isNaN ? 0 : min(max(number, -largest), largest)
        }
      }
      try bounded.withElements(as: Float.self) { (numbers) throws(QMError) in
        try forEachPart(ofBounded: numbers, shape, windows, source, kernels, body)
      }
    } else {
      try forEachPart(ofBounded: input, shape, windows, source, kernels, body)
    }
    return clippedCount
  }

  private static func forEachPart(
    ofBounded input: UnsafeBufferPointer<Float>, _ shape: [Int], _ windows: InputWindows,
    _ source: InputWindows.Source, _ kernels: KernelSet, _ body: (Part) -> Void
  ) throws(QMError) {
    let (groups, length) = (windows.groupCount, windows.length)
    let chosen = chosenWindows(of: try windows.count(of: source, shape))
    for first in stride(from: 0, to: chosen.count, by: windowCount) {
      let range = first..<min(first + windowCount, chosen.count)
      let rows = try Tensor(zeros: .float32, [range.count, groups * length])
      try windows.copy(
        Array(chosen[range]), of: source, input, shape,
        to: UnsafeMutableBufferPointer(
          start: rows.buffer.base.assumingMemoryBound(to: Float.self), count: rows.elementCount))
      var sums = [Double](repeating: 0, count: groups * length)
      let matrix = try rows.withElements(as: Float.self) { (rows) throws(QMError) in
        try Tensor([groups, length, range.count], as: Float.self) { matrix in
          transpose(rows, rowCount: range.count, to: matrix, &sums)
        }
      }
      var part = Part(windowCount: range.count, sums: sums)
      // All groups in one product if their windows are short: a depthwise convolution has hundreds.
      let together = length <= panelLength ? groups : 1
      for first in stride(from: 0, to: groups, by: together) {
        for block in blocks(length: length) {
          for row in stride(from: block.lowerBound, to: block.upperBound, by: panelLength) {
            part.panels.append(
              try panel(
                of: matrix, first..<first + together,
                row..<min(row + panelLength, block.upperBound), row..<block.upperBound, kernels))
          }
        }
      }
      body(part)
    }
  }

  /// The windows of a sample that count: all, or ``mostWindows`` of them, one at an irregular place in
  /// each of as many equal parts.
  private static func chosenWindows(of count: Int) -> [Int] {
    guard count > mostWindows else { return Array(0..<max(count, 0)) }
    return (0..<mostWindows).map { part in
      let (first, next) = (part * count / mostWindows, (part + 1) * count / mostWindows)
      // Regular places would meet only some columns of a picture.
      return first + Int(truncatingIfNeeded: (UInt64(part) &* 0x9E37_79B9_7F4A_7C15) >> 33)
        % (next - first)
    }
  }

  /// Writes the columns of a matrix as rows, and adds each column to its sum, from the top.
  private static func transpose(
    _ rows: UnsafeBufferPointer<Float>, rowCount: Int,
    to columns: UnsafeMutableBufferPointer<Float>, _ sums: inout [Double]
  ) {
    let width = sums.count
    // Parts that fit the cache.
    for first in stride(from: 0, to: width, by: 16) {
      let part = first..<min(first + 16, width)
      for row in 0..<rowCount {
        for column in part {
          let element = rows[row * width + column]
          columns[column * rowCount + row] = element
          sums[column] += Double(element)
        }
      }
    }
  }

  /// Number of rows of products that are computed together.
  private static let panelLength = 256

  /// The products of `rows` with `columns`, each a chain of fused multiply-adds over the windows.
  /// - Parameters:
  ///   - matrix: `[groups, length, windows]`.
  ///   - groups: one group; or all groups, if `rows` are all rows.
  private static func panel(
    of matrix: Tensor, _ groups: Range<Int>, _ rows: Range<Int>, _ columns: Range<Int>,
    _ kernels: KernelSet
  ) throws(QMError) -> Panel {
    let (length, count) = (matrix.shape[1], matrix.shape[2])
    func part(_ range: Range<Int>) throws(QMError) -> Tensor {
      try Tensor(
        .float32, [groups.count, range.count, count], buffer: matrix.buffer,
        byteOffset: matrix.byteOffset
          + 4 * (groups.lowerBound * length + range.lowerBound) * count)
    }
    let products = try Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))
      .evaluate([part(rows), part(columns)], kernels: kernels)[0]
    return Panel(groups: groups, firstRow: rows.lowerBound, products: products)
  }
}

import QMOperations
import QMTensor

/// Sums over all windows of a product's input, over all samples: of each element, and of the products
/// of each two elements.
///
///     sums[i] = Σ x[i]        products[i, j] = Σ x[i] · x[j]
///
/// With W the weights of one output channel, and E a change of them, the squared change of the output
/// summed over the samples is E · products · Eᵀ. These are the matrices that GPTQ works on.
///
/// The sums are the same bytes whichever thread saw a sample, and in whichever order and parts samples
/// were seen: a sample's windows are taken ``windowCount`` at a time in their order, the products of
/// those are added in float32 with one rounding a step, and their sum goes, in units of 2⁻⁴⁰, into
/// integers of 128 bits. Elements beyond ±2²⁶ count as that, NaN as 0, and ``clippedCount`` says
/// how many there were.
///
/// Source of the use: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative
/// Pre-trained Transformers", section 3.
public struct SecondMoments: Hashable, Sendable {
  /// Groups of a convolution, each with sums of its own.
  public let groupCount: Int
  /// Elements of a window.
  public let length: Int
  /// Windows that were seen.
  public internal(set) var count = 0
  /// Elements of inputs that were NaN or beyond ±2²⁶.
  public internal(set) var clippedCount = 0
  /// `[groupCount, length]`, in units of 2⁻⁴⁰.
  var sums: [Int128]
  /// Of each group, the upper triangles of the blocks on the diagonal, row by row, in units of 2⁻⁴⁰.
  var products: [Int128]

  /// Windows up to this long have one block; longer ones have blocks of ``blockLength``, whatever
  /// memory there is.
  static let mostTogether = 4096
  static let blockLength = 1024
  /// Windows whose products are added in float32.
  static let windowCount = 512
  private static let unit = 0x1p-40
  private static let largest: Float = 0x1p26

  init(groupCount: Int, length: Int) {
    self.groupCount = groupCount
    self.length = length
    sums = [Int128](repeating: 0, count: groupCount * length)
    products = [Int128](
      repeating: 0, count: groupCount * SecondMoments.triangleCount(length: length))
  }

  /// The elements of a window that have products with each other: all of them, unless there are many.
  public var blocks: [Range<Int>] { SecondMoments.blocks(length: length) }

  private static func blocks(length: Int) -> [Range<Int>] {
    let step = length > mostTogether ? blockLength : max(length, 1)
    return stride(from: 0, to: length, by: step).map { $0..<min($0 + step, length) }
  }

  static func triangleCount(length: Int) -> Int {
    blocks(length: length).reduce(0) { $0 + $1.count * ($1.count + 1) / 2 }
  }

  /// Memory that the sums take, in bytes.
  static func byteCount(groupCount: Int, length: Int) -> Int {
    16 * groupCount * (length + triangleCount(length: length))
  }

  /// Means of the elements, `[groupCount, length]`.
  public var means: [Double] {
    sums.map { count == 0 ? 0 : Double($0) * SecondMoments.unit / Double(count) }
  }

  /// Means of the products within a block, `[block.count, block.count]`, symmetric.
  /// - Parameters:
  ///   - block: index in ``blocks``.
  ///   - group: below ``groupCount``.
  public func meanProducts(block: Int, group: Int) -> [Double] {
    let blocks = blocks
    let side = blocks[block].count
    var next = group * SecondMoments.triangleCount(length: length)
    for earlier in blocks[..<block] { next += earlier.count * (earlier.count + 1) / 2 }
    var matrix = [Double](repeating: 0, count: side * side)
    for row in 0..<side {
      for column in row..<side {
        let mean = count == 0 ? 0 : Double(products[next]) * SecondMoments.unit / Double(count)
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
    for index in sums.indices { sums[index] &+= other.sums[index] }
    for index in products.indices { products[index] &+= other.products[index] }
  }

  /// What the float32 sums over some windows of one sample are.
  struct Part: Sendable {
    let windowCount: Int
    /// `[groupCount, length]`.
    let sums: [Double]
    var panels: [Panel] = []
  }

  /// Products of some elements of the windows with those from the first of them to their block's end.
  struct Panel: Sendable {
    let groups: Range<Int>
    let firstRow: Int
    /// `[groups.count, rows, columns]`.
    let products: Tensor
  }

  mutating func add(_ part: Part) {
    count += part.windowCount
    for (index, sum) in part.sums.enumerated() { sums[index] &+= SecondMoments.fixed(sum) }
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
      products.withUnsafeMutableBufferPointer { products in
        for (index, group) in panel.groups.enumerated() {
          for row in 0..<rows {
            let inBlock = firstInBlock + row
            // Where the row's first element on the diagonal or right of it is.
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
  }

  /// In units of 2⁻⁴⁰, to the nearest.
  private static func fixed(_ number: Double) -> Int128 {
    let scaled = number / unit
    if abs(scaled) < 0x1p62 { return Int128(Int64(scaled.rounded(.toNearestOrEven))) }
    let high = Int64(scaled * 0x1p-48)
    return Int128(high) << 48 + Int128(Int64(scaled - Double(high) * 0x1p48))
  }

  // MARK: One sample

  /// Calls `body` with the sums over each ``windowCount`` windows of an input.
  /// - Parameter shape: of the input, which the product's type rule accepts.
  /// - Returns: how many elements of the input were clipped.
  static func forEachPart(
    of input: UnsafeBufferPointer<Float>, _ shape: [Int], _ windows: InputWindows,
    kernels: KernelSet, _ body: (Part) -> Void
  ) throws(QMError) -> Int {
    // False for NaN.
    let clippedCount = input.reduce(0) { abs($1) <= largest ? $0 : $0 + 1 }
    if clippedCount > 0 {
      let bounded = try Tensor([input.count], as: Float.self) { numbers in
        for (index, number) in input.enumerated() {
          numbers[index] = number.isNaN ? 0 : min(max(number, -largest), largest)
        }
      }
      try bounded.withElements(as: Float.self) { (numbers) throws(QMError) in
        try forEachPart(ofBounded: numbers, shape, windows, kernels, body)
      }
    } else {
      try forEachPart(ofBounded: input, shape, windows, kernels, body)
    }
    return clippedCount
  }

  private static func forEachPart(
    ofBounded input: UnsafeBufferPointer<Float>, _ shape: [Int], _ windows: InputWindows,
    _ kernels: KernelSet, _ body: (Part) -> Void
  ) throws(QMError) {
    let count = try windows.count(input: shape)
    let (groups, length) = (windows.groupCount, windows.length)
    for first in stride(from: 0, to: count, by: windowCount) {
      let range = first..<min(first + windowCount, count)
      let matrix = try Tensor(zeros: .float32, [groups, length, range.count])
      let elements = UnsafeMutableBufferPointer(
        start: matrix.buffer.base.assumingMemoryBound(to: Float.self),
        count: matrix.elementCount)
      try windows.copy(range, of: input, shape, to: elements)
      let sums = (0..<groups * length).map { row in
        elements[row * range.count..<(row + 1) * range.count].reduce(0.0) { $0 + Double($1) }
      }
      var part = Part(windowCount: range.count, sums: sums)
      // Groups of few channels together: there may be hundreds.
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

  /// Rows of products that are computed together.
  private static let panelLength = 256

  /// Each product is a chain of fused multiply-adds over the windows.
  /// - Parameters:
  ///   - matrix: `[groups, length, windows]`.
  ///   - groups: one, or all of those whose rows are all taken.
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

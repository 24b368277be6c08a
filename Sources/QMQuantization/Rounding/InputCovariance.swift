import QMOperations
import QMTensor

/// The covariance of the input windows of a product, factored so that rounding errors can be
/// compensated. For each group of a convolution, and each block of a long window:
///
///     C = Σ (x − μ)(x − μ)ᵀ / N + λ · 1 = F · D · Fᵀ
///
/// with F lower triangular, ones on its diagonal, and D diagonal. The elements of a window are in
/// ascending order of their variance. If E is the change of the weights of one output channel, then
/// E · C · Eᵀ is the mean squared change of its output, apart from a constant shift, which a bias
/// removes.
///
/// λ is 0.01 of the mean variance, or 0.1 if there are fewer than four windows per element; it is
/// multiplied by 10, up to 1, until the factorization succeeds.
///
/// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative
/// Pre-trained Transformers", section 3.3 (damping; order by variance as in the reference
/// implementation); Chee et al. 2023, "QuIP: 2-Bit Quantization of Large Language Models With
/// Guarantees", section 3.2 (the factors that make GPTQ a feedback of past errors).
package struct InputCovariance: Sendable {
  /// One diagonal block of one group.
  struct Block: Sendable {
    /// The elements of the window.
    let range: Range<Int>
    /// For each row of the factor the element of the block, counted from the start of `range`.
    let order: [Int]
    /// The diagonal of D.
    let pivots: [Float]
    /// F, float32 `[range.count, range.count]`; what is above the diagonal has no meaning.
    let factor: Tensor
    /// The variance of each element of the block, plus λ.
    let variances: [Float]
  }

  /// For each group its blocks.
  let groups: [[Block]]
  /// Elements of a window.
  let length: Int

  /// The variance of each element of the windows, plus λ: the factor of the squared error of a weight
  /// if no other weight compensates it. `[groups, length]`.
  var importance: [Float] {
    groups.flatMap { blocks in blocks.flatMap { block in block.variances } }
  }

  /// - Parameters:
  ///   - moments: of the windows.
  ///   - isCentred: whether the mean of the windows is subtracted: a constant shift of the output is
  ///     corrected otherwise.
  /// - Returns: nil if there are fewer than two windows per element, if they do not vary, or if their
  ///   covariance cannot be factored.
  /// - Throws: `outOfMemory`.
  package init?(
    _ moments: SecondMoments, isCentred: Bool, kernels: KernelSet, threads: ThreadPool
  ) throws(QMError) {
    length = moments.length
    let longest = moments.blocks.map(\.count).max() ?? 0
    guard longest > 0, moments.count >= 2 * longest else { return nil }
    let damping: Float = moments.count < 4 * longest ? 0.1 : 0.01
    let means = isCentred ? moments.means : []
    var groups: [[Block]] = []
    for group in 0..<moments.groupCount {
      var blocks: [Block] = []
      for (number, range) in moments.blocks.enumerated() {
        var products = moments.meanProducts(block: number, group: group)
        if isCentred {
          let first = group * moments.length + range.lowerBound
          means[first..<first + range.count].withUnsafeBufferPointer { means in
            for row in means.indices {
              for column in means.indices {
                products[row * means.count + column] -= means[row] * means[column]
              }
            }
          }
        }
        guard
          let block = try Block(
            range, products, damping: damping, kernels: kernels, threads: threads)
        else { return nil }
        blocks.append(block)
      }
      groups.append(blocks)
    }
    self.groups = groups
  }
}

extension InputCovariance.Block {
  /// - Parameters:
  ///   - covariance: `[range.count, range.count]`.
  ///   - damping: first λ, as a part of the mean variance.
  /// - Returns: nil if the covariance cannot be factored.
  fileprivate init?(
    _ range: Range<Int>, _ covariance: [Double], damping: Float, kernels: KernelSet,
    threads: ThreadPool
  ) throws(QMError) {
    let count = range.count
    let variances = (0..<count).map { max(0, covariance[$0 * (count + 1)]) }
    let mean = variances.reduce(0, +) / Double(count)
    guard mean > 0, mean.isFinite else { return nil }
    let order = (0..<count).sorted { (variances[$0], $0) < (variances[$1], $1) }
    var damping = Double(damping)
    while damping <= 1 {
      let matrix = try Tensor([count, count], as: Float.self) { matrix in
        for (row, source) in order.enumerated() {
          for (column, other) in order[...row].enumerated() {
            // In units of the mean variance, so that no square leaves float32.
            matrix[row * count + column] = Float(covariance[source * count + other] / mean)
          }
          matrix[row * (count + 1)] += Float(damping)
        }
      }
      if let pivots = try Cholesky(kernels: kernels, threads: threads).factor(matrix) {
        self.range = range
        self.order = order
        self.pivots = pivots.map { $0 * Float(mean) }
        self.variances = variances.map { Float($0 + damping * mean) }
        factor = matrix
        return
      }
      damping *= 10
    }
    return nil
  }
}

/// The factorization A = F · D · Fᵀ of a symmetric positive definite matrix, by blocks of columns:
/// the columns of a block in float64, then one float32 product that updates the rest.
///
/// Source: Golub and Van Loan, "Matrix Computations", algorithm 4.2.3 (blocked outer product form).
struct Cholesky {
  let kernels: KernelSet
  let threads: ThreadPool

  private static let blockLength = 64
  /// Rows of the rest that are updated by one product.
  private static let panelLength = 256

  /// Replaces the lower triangle of A by F, with ones on the diagonal.
  /// - Parameter matrix: float32 `[n, n]`; the lower triangle is read. Owned by the caller alone.
  /// - Returns: the diagonal of D; nil if A is not positive definite, and then the matrix has no
  ///   meaning.
  /// - Throws: `outOfMemory`.
  func factor(_ matrix: Tensor) throws(QMError) -> [Float]? {
    let count = matrix.shape[0]
    defer { withExtendedLifetime(matrix) {} }
    let elements = UnsafeMutableBufferPointer(
      start: (matrix.buffer.base + matrix.byteOffset).assumingMemoryBound(to: Float.self),
      count: matrix.elementCount)
    var roots = [Double](repeating: 0, count: count)
    for first in stride(from: 0, to: count, by: Cholesky.blockLength) {
      let columns = first..<min(first + Cholesky.blockLength, count)
      guard let diagonal = diagonalFactor(elements, count, columns) else { return nil }
      for (index, column) in columns.enumerated() {
        roots[column] = diagonal[index * (columns.count + 1)]
      }
      let rest = columns.upperBound..<count
      guard !rest.isEmpty else { break }
      let below = try solve(elements, count, columns, diagonal, rest)
      try update(elements, count, rest, by: below)
    }
    for row in 0..<count {
      for column in 0..<row {
        elements[row * count + column] = Float(
          Double(elements[row * count + column]) / roots[column])
      }
      elements[row * (count + 1)] = 1
    }
    return roots.map { Float($0 * $0) }
  }

  /// The Cholesky factor of a diagonal block in float64, which also replaces the block; nil if a
  /// pivot is not positive.
  private func diagonalFactor(
    _ elements: UnsafeMutableBufferPointer<Float>, _ count: Int, _ columns: Range<Int>
  ) -> [Double]? {
    let side = columns.count
    var factor = [Double](repeating: 0, count: side * side)
    for row in 0..<side {
      for column in 0...row {
        var sum = Double(elements[(columns.lowerBound + row) * count + columns.lowerBound + column])
        for index in 0..<column {
          sum -= factor[row * side + index] * factor[column * side + index]
        }
        if column == row {
          // A pivot of only rounding errors would make the columns after it meaningless.
          guard sum > 1e-6 else { return nil }
          factor[row * side + row] = sum.squareRoot()
        } else {
          factor[row * side + column] = sum / factor[column * side + column]
        }
        elements[(columns.lowerBound + row) * count + columns.lowerBound + column] = Float(
          factor[row * side + column])
      }
    }
    return factor
  }

  /// Solves X · factorᵀ = A for the rows below a diagonal block.
  /// - Returns: X as float32 `[rows.count, columns.count]`, which also replaces A.
  private func solve(
    _ elements: UnsafeMutableBufferPointer<Float>, _ count: Int, _ columns: Range<Int>,
    _ factor: [Double], _ rows: Range<Int>
  ) throws(QMError) -> Tensor {
    let side = columns.count
    return try Tensor([rows.count, side], as: Float.self) { solution in
      let chunk = 32
      threads.run(chunks: (rows.count + chunk - 1) / chunk) { (number, _) in
        factor.withUnsafeBufferPointer { factor in
          withUnsafeTemporaryAllocation(of: Double.self, capacity: side) { row in
            for index in number * chunk..<min((number + 1) * chunk, rows.count) {
              let start = (rows.lowerBound + index) * count + columns.lowerBound
              for column in 0..<side {
                var sum = Double(elements[start + column])
                for inner in 0..<column { sum -= row[inner] * factor[column * side + inner] }
                row[column] = sum / factor[column * side + column]
                solution[index * side + column] = Float(row[column])
                elements[start + column] = Float(row[column])
              }
            }
          }
        }
      }
    }
  }

  /// A −= X · Xᵀ in the lower triangle of the rest.
  private func update(
    _ elements: UnsafeMutableBufferPointer<Float>, _ count: Int, _ rest: Range<Int>,
    by below: Tensor
  ) throws(QMError) {
    let side = below.shape[1]
    func rows(_ range: Range<Int>) throws(QMError) -> Tensor {
      try Tensor(
        .float32, [range.count, side], buffer: below.buffer,
        byteOffset: below.byteOffset + 4 * range.lowerBound * side)
    }
    for first in stride(from: 0, to: rest.count, by: Cholesky.panelLength) {
      let panel = first..<min(first + Cholesky.panelLength, rest.count)
      let products = try Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))
        .evaluate(
          [rows(panel), rows(0..<panel.upperBound)], kernels: kernels, threads: threads)[0]
      products.withElements(as: Float.self) { products in
        for row in panel {
          let target = (rest.lowerBound + row) * count + rest.lowerBound
          let source = (row - panel.lowerBound) * panel.upperBound
          for column in 0...row { elements[target + column] -= products[source + column] }
        }
      }
    }
  }
}

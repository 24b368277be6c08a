import QMOperations
import QMTensor

/// Elements in another order of axes, for gradients that want some axes last.
struct Reordering {
  private let count: Int
  /// nil if the elements are in this order already.
  private let moves: Moves?

  private struct Moves {
    let there: PreparedOperation
    let back: PreparedOperation
    /// Offsets of the copies.
    let copies: [Int]
    let result: Int
    let returned: Int
    let work: Int
  }

  /// - Parameters:
  ///   - sources: the old axis at each new position.
  ///   - copies: number of tensors that are copied in one run.
  init(
    _ shape: [Int], _ sources: [Int], copies: Int, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    let count = shape.reduce(1, *)
    self.count = count
    // Axes of one element may stand anywhere.
    let long = sources.filter { shape[$0] != 1 }
    guard long != long.sorted() else {
      moves = nil
      return
    }
    let there = try node.prepared(.transpose(Transpose(permutation: sources)), [shape])
    let back = try node.prepared(
      .transpose(Transpose(permutation: AxisOrder(sources).places)), [sources.map { shape[$0] }])
    moves = Moves(
      there: there, back: back, copies: (0..<copies).map { _ in scratch.floats(count) },
      result: scratch.floats(count), returned: scratch.floats(count),
      work: scratch.bytes(
        max(
          there.scratchByteCount(threads: node.threadCount),
          back.scratchByteCount(threads: node.threadCount))))
  }

  /// The elements in the new order.
  /// - Parameter number: of the copy.
  func copy(_ elements: Floats, _ number: Int, _ memory: GradientMemory) throws(QMError) -> Floats {
    guard let moves else { return elements }
    let target = memory.scratch + moves.copies[number]
    try moves.there.run(
      [elements], [target], scratch: memory.scratch + moves.work, threads: memory.threads)
    return target.assumingMemoryBound(to: Float.self)
  }

  /// Calls `body`, which adds to the elements that it is given, in the new order.
  func add(
    to target: Floats, _ memory: GradientMemory, _ body: (Floats) throws(QMError) -> Void
  ) throws(QMError) {
    guard let moves else { return try body(target) }
    let result = memory.scratch.floats(at: moves.result)
    result.update(repeating: 0, count: count)
    try body(result)
    let returned = memory.scratch.floats(at: moves.returned)
    try moves.back.run(
      [result], [returned], scratch: memory.scratch + moves.work, threads: memory.threads)
    target.add(returned, count: count, memory.threads)
  }
}

/// The elements along some axes, one row behind another.
struct Rows {
  let count: Int
  /// Elements of a row.
  let length: Int
  let order: Reordering

  /// - Parameters:
  ///   - axes: ascending.
  ///   - copies: number of tensors that are copied in one run.
  init(
    _ shape: [Int], along axes: [Int], copies: Int, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    let kept = shape.indices.filter { !axes.contains($0) }
    count = kept.reduce(1) { $0 * shape[$1] }
    length = axes.reduce(1) { $0 * shape[$1] }
    order = try Reordering(shape, kept + axes, copies: copies, node, &scratch)
  }

  /// Calls `body` with the number of each row and the place of its first element.
  func forEach(_ threads: ThreadPool, _ body: (_ row: Int, _ start: Int) -> Void) {
    threads.forRows(count, elements: length) { rows in
      for row in rows { body(row, row * length) }
    }
  }
}

extension Floats {
  /// The sum of elements, in 16 lanes.
  func sum(_ count: Int) -> Float {
    var lanes = SIMD16<Float>()
    for start in stride(from: 0, to: count, by: 16) { lanes += self.lanes(start, end: count) }
    return lanes.sumInHalves
  }

  /// The sum of products of the elements of two arrays, in 16 lanes.
  func dot(_ other: Floats, _ count: Int) -> Float {
    var lanes = SIMD16<Float>()
    for start in stride(from: 0, to: count, by: 16) {
      lanes += self.lanes(start, end: count) * other.lanes(start, end: count)
    }
    return lanes.sumInHalves
  }
}

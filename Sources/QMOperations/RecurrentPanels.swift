import QMTensor

/// The weights of a recurrent layer in panels: for each direction those of the input, those of the
/// state, and those of the last gate, where its product stands alone.
struct RecurrentPanels: Hashable, Sendable {
  let directions: Int
  /// Of one direction.
  let input: ProductPanels
  let recurrence: ProductPanels
  let candidate: ProductPanels?

  private var candidateByteCount: Int { candidate?.byteCount ?? 0 }
  private var directionByteCount: Int {
    [input.byteCount, recurrence.byteCount, candidateByteCount].map(ScratchLayout.rounded)
      .reduce(0, +)
  }

  var byteCount: Int { directions * directionByteCount }

  func inputOffset(_ direction: Int) -> Int { direction * directionByteCount }

  func recurrenceOffset(_ direction: Int) -> Int {
    inputOffset(direction) + ScratchLayout.rounded(input.byteCount)
  }

  func candidateOffset(_ direction: Int) -> Int {
    recurrenceOffset(direction) + ScratchLayout.rounded(recurrence.byteCount)
  }

  /// - Parameters:
  ///   - weights: `[directions, rows, inputs]`.
  ///   - recurrence: `[directions, rows, hidden]`.
  ///   - sources: what holds either, if its pages may go as they are packed.
  func pack(
    weights: UnsafeRawPointer, recurrence: UnsafeRawPointer,
    into target: UnsafeMutableRawPointer,
    consuming sources: (weights: Buffer?, recurrence: Buffer?) = (nil, nil)
  ) {
    let rowByteCount = self.recurrence.depth * self.recurrence.elementByteCount
    for direction in 0..<directions {
      let own = weights + direction * input.columns * input.depth * input.elementByteCount
      input.pack(
        matrix: 0, own, .channelsFirst, into: target + inputOffset(direction),
        consuming: sources.weights)
      let first = recurrence + direction * input.columns * rowByteCount
      self.recurrence.pack(
        matrix: 0, first, .channelsFirst, into: target + recurrenceOffset(direction),
        consuming: sources.recurrence)
      candidate?.pack(
        matrix: 0, first + self.recurrence.columns * rowByteCount, .channelsFirst,
        into: target + candidateOffset(direction), consuming: sources.recurrence)
    }
  }
}

import QMTensor

/// The weights of a recurrent layer in panels. Each direction has panels for the input, for the
/// state, and, with the cell `gru`, for the product of the last gate, which is computed separately.
struct RecurrentPanels: Hashable, Sendable {
  let directions: Int
  // The panels of one direction.
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
  ///   - sources: the buffers of weights and recurrence, if their pages may be freed once packed.
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

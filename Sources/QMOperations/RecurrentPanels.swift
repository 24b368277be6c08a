import QMTensor

/// The weights of a recurrent layer in panels. Each direction has panels for the input, for the
/// state, and, with the cell `gru`, for the product of the last gate, which is computed separately.
struct RecurrentPanels: Hashable, Sendable {
  let directions: Int
  // The panels of one direction.
  let input: ProductPanels
  let recurrence: ProductPanels
  let candidate: ProductPanels?

  // Bytes of the panels for the input, of those and the ones for the state, and of all.
  private let inputByteCount: Int
  private let joinedByteCount: Int
  private let directionByteCount: Int

  init(
    directions: Int, input: ProductPanels, recurrence: ProductPanels, candidate: ProductPanels?
  ) {
    self.directions = directions
    self.input = input
    self.recurrence = recurrence
    self.candidate = candidate
    inputByteCount = ScratchLayout.rounded(input.byteCount)
    joinedByteCount = inputByteCount + ScratchLayout.rounded(recurrence.byteCount)
    directionByteCount = joinedByteCount + ScratchLayout.rounded(candidate?.byteCount ?? 0)
  }

  var byteCount: Int { directions * directionByteCount }

  func inputOffset(_ direction: Int) -> Int { direction * directionByteCount }

  func recurrenceOffset(_ direction: Int) -> Int { inputOffset(direction) + inputByteCount }

  func candidateOffset(_ direction: Int) -> Int { inputOffset(direction) + joinedByteCount }

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

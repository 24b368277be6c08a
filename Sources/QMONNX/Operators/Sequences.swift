import QMOperations
import QMTensor

// Sequences of tensors. Their lengths are known while the network is read, so that none is left.

extension NodeReader {
  /// Tensors that a sequence may hold.
  private static let longestSequence = 1 << 14

  /// SequenceConstruct and SequenceEmpty.
  func sequenceConstruct() throws(QMError) {
    var elements: [Value] = []
    for index in node.inputs.indices { elements.append(try raw(index)) }
    try finish([GraphBuilder.Item.sequence(elements)])
  }

  /// The position that input `index` holds, counted from the front.
  /// - Parameter count: number of positions.
  private func position(_ index: Int, count: Int) throws(QMError) -> Int {
    guard let position = try constantInteger(index, "position in the sequence") else {
      throw .malformed("input \(index) is missing")
    }
    guard position >= -count, position < count else {
      throw .malformed("position \(position) in a sequence with \(count) positions")
    }
    return position < 0 ? position + count : position
  }

  func sequenceAt() throws(QMError) {
    let elements = try sequence(0)
    try finish([elements[position(1, count: elements.count)]])
  }

  func sequenceInsert() throws(QMError) {
    var elements = try sequence(0)
    let element = try raw(1)
    try requireSameType(element, elements.first)
    guard elements.count < Self.longestSequence else {
      throw .unsupported("a sequence of more than \(Self.longestSequence) tensors")
    }
    let count = elements.count
    let place = try constantInteger(2, "position in the sequence") ?? count
    guard (-count...count).contains(place) else {
      throw .malformed("position \(place) in a sequence of \(count) tensors")
    }
    elements.insert(element, at: place < 0 ? place + count : place)
    try finish([GraphBuilder.Item.sequence(elements)])
  }

  func sequenceErase() throws(QMError) {
    var elements = try sequence(0)
    guard !elements.isEmpty else { throw .malformed("the sequence is empty") }
    elements.remove(
      at: try hasInput(1) ? position(1, count: elements.count) : elements.count - 1)
    try finish([GraphBuilder.Item.sequence(elements)])
  }

  func sequenceLength() throws(QMError) {
    try finish([addConstant(Tensor([], [Int64(sequence(0).count)]), "length")])
  }

  /// SplitToSequence: parts of equal extent, the last one smaller, or parts of given extents. Without
  /// `split` each part is one element, and `keepdims` says whether its axis remains.
  func splitToSequence() throws(QMError) {
    let input = try raw(0)
    let axis = try axis(integer("axis") ?? 0, rank: shape(input).rank)
    guard let extent = shape(input)[axis].extent else {
      throw .unsupported(
        "axis \(axis) of \(shape(input)) is dynamic; expected a fixed extent", remedies: .cutBefore)
    }
    let given = try constantIntegers(1, "sizes")
    let isList = try optional(1).map { shape($0).rank > 0 } ?? false
    let sizes: [Int]
    if let given, isList {
      sizes = given
    } else {
      let size = given?.first ?? 1
      guard size >= 1 else { throw .malformed("a size of \(size); expected at least 1") }
      sizes = stride(from: 0, to: extent, by: size).map { min(size, extent - $0) }
    }
    guard sizes.count <= Self.longestSequence, sizes.allSatisfy({ (0...extent).contains($0) }),
      sizes.reduce(0, &+) == extent
    else {
      throw .malformed(
        "sizes \(sizes.prefix(8)) of an axis of \(extent) elements; expected up to \(Self.longestSequence) that fill it"
      )
    }
    var parts: [Value] = []
    var start = 0
    for size in sizes {
      var part = try sliced(input, axis: axis, from: start, to: start + size)
      if given == nil, try !flag("keepdims", default: true) {
        part = try call("Squeeze", part, integers([axis]))
      }
      parts.append(part)
      start += size
    }
    try finish([GraphBuilder.Item.sequence(parts)])
  }

  /// ConcatFromSequence: along an axis, or a new one.
  func concatFromSequence() throws(QMError) {
    var elements = try sequence(0)
    guard let first = elements.first else { throw .malformed("the sequence is empty") }
    let isNew = try flag("new_axis", default: false)
    guard let given = try integer("axis") else { throw .malformed("attribute 'axis' is missing") }
    let axis = try axis(given, rank: shape(first).rank + (isNew ? 1 : 0))
    if isNew {
      let axes = try integers([axis])
      for index in elements.indices {
        elements[index] = try call("Unsqueeze", elements[index], axes)
      }
    }
    try finish(call("Concat", elements, ["axis": .integer(Int64(axis))], outputs: 1))
  }

  // MARK: Optional values

  /// OptionalHasElement. An optional that was made of a value is that value.
  func optionalHasElement() throws(QMError) {
    try finish([addConstant(Tensor([], [hasInput(0)]), "hasElement")])
  }

  /// Optional, of a value, and OptionalGetElement.
  func optionalElement() throws(QMError) {
    guard hasInput(0), let item = try builder.item(named: node.inputs[0]) else {
      throw .unsupported("an optional without an element cannot be read", remedies: .cutBefore)
    }
    try finish([item])
  }
}

import QMTensor

/// How the elements of a data section lie in it before it is deflated. Deflate codes bytes, so how
/// codes and floats are put into bytes decides how small it makes them.
public enum DataLayout: Hashable, Sendable {
  /// Element after element, little-endian.
  case plain
  /// Codes of `width` bits in two's complement, one after the other, lowest bits of a byte first;
  /// the last byte is filled up with zeros.
  case bits(BitWidth)
  /// Several codes a byte, so that no code straddles bytes: `Σ (code[i] − minimum) · radixⁱ`, with
  /// as many codes as `radix` to their number stays within 256. The last byte is filled up with
  /// zeros.
  case digits(radix: Int, minimum: Int)
  /// The first bytes of all elements, then the second bytes, and so on.
  case planes
  /// As ``planes``; then each byte is replaced by its difference from the byte before it.
  case planeDifferences

  /// More than 16 digits leave room for only one a byte.
  package static let radixes = 2...16

  var number: UInt8 {
    switch self {
    case .plain: 0
    case .bits: 1
    case .digits: 2
    case .planes: 3
    case .planeDifferences: 4
    }
  }

  private static func digitsPerByte(radix: Int) -> Int {
    var (digits, combinations) = (1, radix)
    while combinations * radix <= 256 {
      (digits, combinations) = (digits + 1, combinations * radix)
    }
    return digits
  }

  /// Bytes that `count` elements take.
  package func byteCount(of elementType: ElementType, count: Int) -> Int {
    switch self {
    case .plain, .planes, .planeDifferences: return count * elementType.byteCount
    case .bits(let width):
      let (whole, rest) = count.quotientAndRemainder(dividingBy: 8)
      return whole * width.bits + (rest * width.bits + 7) / 8
    case .digits(let radix, _):
      let digits = DataLayout.digitsPerByte(radix: radix)
      return count / digits + (count % digits == 0 ? 0 : 1)
    }
  }

  /// Whether elements of the type can lie so.
  func admits(_ elementType: ElementType) -> Bool {
    switch self {
    case .plain, .planes, .planeDifferences: true
    case .bits, .digits: elementType == .int8
    }
  }

  // MARK: Writing

  /// `elements`, native and so little-endian on every platform of Swift, in this layout.
  package func encoded(_ elements: [UInt8], _ elementType: ElementType) -> [UInt8] {
    switch self {
    case .plain: return elements
    case .bits(let width):
      var bytes: [UInt8] = []
      var (pending, pendingBits) = (0, 0)
      for element in elements {
        pending |= (Int(element) & (1 << width.bits - 1)) << pendingBits
        pendingBits += width.bits
        while pendingBits >= 8 {
          bytes.append(UInt8(truncatingIfNeeded: pending))
          pending >>= 8
          pendingBits -= 8
        }
      }
      if pendingBits > 0 { bytes.append(UInt8(pending)) }
      return bytes
    case .digits(let radix, let minimum):
      let digits = DataLayout.digitsPerByte(radix: radix)
      return stride(from: 0, to: elements.count, by: digits).map { start in
        let part = elements[start..<min(start + digits, elements.count)]
        let byte = part.reversed().reduce(0) { sum, element in
          sum * radix + (Int(Int8(bitPattern: element)) - minimum)
        }
        return UInt8(byte)
      }
    case .planes:
      let size = elementType.byteCount
      var bytes: [UInt8] = []
      bytes.reserveCapacity(elements.count)
      for plane in 0..<size {
        for index in stride(from: plane, to: elements.count, by: size) {
          bytes.append(elements[index])
        }
      }
      return bytes
    case .planeDifferences:
      var bytes = DataLayout.planes.encoded(elements, elementType)
      var previous: UInt8 = 0
      for index in bytes.indices {
        let byte = bytes[index]
        bytes[index] = byte &- previous
        previous = byte
      }
      return bytes
    }
  }

  /// The layout in which the elements will deflate best, judged by ``estimatedBitCount(_:)``; the
  /// first of equals. It depends on nothing but the elements, so that a program has one content
  /// whatever the version of zlib.
  /// - Parameter width: of codes; nil for elements that are no codes of weights.
  package static func best(for elements: [UInt8], _ elementType: ElementType, width: BitWidth?)
    -> (layout: DataLayout, bytes: [UInt8])
  {
    var candidates: [DataLayout] = []
    if let width, width < .eight { candidates.append(.bits(width)) }
    if elementType == .int8, !elements.isEmpty {
      let codes = elements.lazy.map { Int(Int8(bitPattern: $0)) }
      let (minimum, maximum) = (codes.min()!, codes.max()!)
      // A digit beyond the maximum must still be a code: a reader need not look at each.
      let radix = max(2, maximum - minimum + 1)
      if radixes.contains(radix) {
        candidates.append(.digits(radix: radix, minimum: min(minimum, 127 - (radix - 1))))
      }
    }
    if elementType.byteCount > 1 { candidates.append(.planes) }
    candidates.append(.planeDifferences)
    var best = (layout: DataLayout.plain, bytes: elements)
    var fewest = estimatedBitCount(elements)
    for candidate in candidates {
      let bytes = candidate.encoded(elements, elementType)
      let bitCount = estimatedBitCount(bytes)
      if bitCount < fewest { (best, fewest) = ((candidate, bytes), bitCount) }
    }
    return best
  }

  // MARK: Reading

  /// Puts the elements of a section into `elements`, which they fill exactly.
  /// - Throws: `malformed` if a byte stands for no codes.
  package func decode(
    _ bytes: UnsafeRawBufferPointer, _ elementType: ElementType,
    into elements: UnsafeMutableRawBufferPointer
  ) throws(QMError) {
    switch self {
    case .plain: elements.copyMemory(from: bytes)
    case .bits(let width): try decodeBits(bytes, width: width.bits, into: elements)
    case .digits(let radix, let minimum):
      try decodeDigits(bytes, radix: radix, minimum: minimum, into: elements)
    case .planes: gather(bytes, elementType.byteCount, into: elements, differences: false)
    case .planeDifferences:
      gather(bytes, elementType.byteCount, into: elements, differences: true)
    }
  }

  private func decodeBits(
    _ bytes: UnsafeRawBufferPointer, width: Int, into elements: UnsafeMutableRawBufferPointer
  ) throws(QMError) {
    var (pending, pendingBits, position) = (0, 0, 0)
    let shift = Int.bitWidth - width
    // Eight codes are so many bytes as one has bits.
    let whole = elements.count / 8
    for group in 0..<whole {
      var bits = 0
      for byte in 0..<width { bits |= Int(bytes[group * width + byte]) << (8 * byte) }
      for code in 0..<8 {
        elements[8 * group + code] = UInt8(truncatingIfNeeded: (bits << shift) >> shift)
        bits >>= width
      }
    }
    position = whole * width
    for index in 8 * whole..<elements.count {
      if pendingBits < width {
        pending |= Int(bytes[position]) << pendingBits
        position += 1
        pendingBits += 8
      }
      // Shifted up and down again for the sign.
      elements[index] = UInt8(truncatingIfNeeded: (pending << shift) >> shift)
      pending >>= width
      pendingBits -= width
    }
    guard pending == 0 else {
      throw .malformed("the last byte of packed codes is not filled up with zeros")
    }
  }

  private func decodeDigits(
    _ bytes: UnsafeRawBufferPointer, radix: Int, minimum: Int,
    into elements: UnsafeMutableRawBufferPointer
  ) throws(QMError) {
    let digits = DataLayout.digitsPerByte(radix: radix)
    var codes = [UInt8](repeating: 0, count: 256 * digits)
    for byte in 0..<256 {
      var rest = byte
      for digit in 0..<digits {
        codes[byte * digits + digit] = UInt8(truncatingIfNeeded: minimum + rest % radix)
        rest /= radix
      }
    }
    let combinations = (0..<digits).reduce(1) { product, _ in product * radix }
    var index = 0
    for byte in bytes {
      let count = min(digits, elements.count - index)
      let allowed = count == digits ? combinations : (0..<count).reduce(1) { p, _ in p * radix }
      guard Int(byte) < allowed else {
        throw .malformed("byte \(byte) stands for no \(count) digits of radix \(radix)")
      }
      for digit in 0..<count { elements[index + digit] = codes[Int(byte) * digits + digit] }
      index += count
    }
  }

  private func gather(
    _ bytes: UnsafeRawBufferPointer, _ size: Int, into elements: UnsafeMutableRawBufferPointer,
    differences: Bool
  ) {
    let count = bytes.count / size
    var sum: UInt8 = 0
    for plane in 0..<size {
      for index in 0..<count {
        let byte = bytes[plane * count + index]
        sum = differences ? sum &+ byte : byte
        elements[index * size + plane] = sum
      }
    }
  }
}

/// About how many bits deflate will need. Counted in integers only, so that every machine takes
/// the same decision: the Huffman code of each stretch of 16,384 bytes, where a byte that repeats
/// the one before it three times or more counts as one symbol, as zlib's run-length strategy has
/// it; a stretch that would grow counts as stored.
package func estimatedBitCount(_ bytes: [UInt8]) -> Int {
  var total = 0
  var start = 0
  while start < bytes.count {
    let end = min(start + 16_384, bytes.count)
    total += min(huffmanBitCount(bytes[start..<end]), 8 * (end - start) + 40)
    start = end
  }
  return total
}

private func huffmanBitCount(_ bytes: ArraySlice<UInt8>) -> Int {
  // 256 literals, the end of the block, and a symbol for each power of two of a run's length.
  var counts = [Int](repeating: 0, count: 266)
  counts[256] = 1
  var extraBits = 0
  var index = bytes.startIndex
  while index < bytes.endIndex {
    let byte = bytes[index]
    var run = 1
    while run < 259, index + run < bytes.endIndex, bytes[index + run] == byte { run += 1 }
    if run > 3 {
      counts[Int(byte)] += 1
      let power = (run - 1).bitWidth - 1 - (run - 1).leadingZeroBitCount
      counts[257 + power] += 1
      // Of the length about the power less two, of the distance one.
      extraBits += max(0, power - 2) + 1
    } else {
      counts[Int(byte)] += run
    }
    index += run
  }
  let leaves = counts.filter { $0 > 0 }.sorted()
  // Every symbol that occurs takes about four bits of the block's header.
  let headerBits = 60 + 4 * leaves.count
  return headerBits + extraBits + huffmanCost(leaves)
}

/// Weighted length of a Huffman code: the sum of the weights of its inner nodes.
private func huffmanCost(_ leaves: [Int]) -> Int {
  var inner: [Int] = []
  var (leaf, node, cost) = (0, 0, 0)
  func next() -> Int {
    if node == inner.count || (leaf < leaves.count && leaves[leaf] <= inner[node]) {
      leaf += 1
      return leaves[leaf - 1]
    }
    node += 1
    return inner[node - 1]
  }
  for _ in 1..<max(leaves.count, 1) {
    let weight = next() + next()
    inner.append(weight)
    cost += weight
  }
  return cost
}

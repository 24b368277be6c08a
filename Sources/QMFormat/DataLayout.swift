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

  fileprivate static func digitsPerByte(radix: Int) -> Int {
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
    let codes = elements.lazy.map { Int(Int8(bitPattern: $0)) }
    if elementType == .int8, let minimum = codes.min(), let maximum = codes.max() {
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
    var decoder = DataDecoder(self, elementType, into: elements)
    try decoder.append(bytes)
  }

  fileprivate static func combinations(radix: Int, digits: Int) -> Int {
    (0..<digits).reduce(1) { product, _ in product * radix }
  }
}

/// Puts the elements of a section where they belong while its bytes arrive part by part.
package struct DataDecoder {
  /// Bytes of every part but the last are a multiple of this, so that no part ends within codes
  /// that share bytes: whatever the width, eight codes are so many bytes as one has bits.
  package static let partByteCount = 840 << 6

  private let layout: DataLayout
  private let size: Int
  private let elements: UnsafeMutableRawBufferPointer
  /// Bytes that have arrived.
  private var position = 0
  /// Of the differences so far.
  private var sum: UInt8 = 0
  /// For each byte the codes that it stands for, the first lowest.
  private let digits: [UInt64]

  /// - Parameter elements: the elements fill it exactly. It must outlive the decoder.
  package init(
    _ layout: DataLayout, _ elementType: ElementType, into elements: UnsafeMutableRawBufferPointer
  ) {
    self.layout = layout
    self.elements = elements
    size = elementType.byteCount
    guard case .digits(let radix, let minimum) = layout else {
      digits = []
      return
    }
    let count = DataLayout.digitsPerByte(radix: radix)
    digits = (0..<256).map { byte in
      var (rest, codes) = (byte, UInt64(0))
      for digit in 0..<count {
        codes |= UInt64(UInt8(truncatingIfNeeded: minimum + rest % radix)) << UInt64(8 * digit)
        rest /= radix
      }
      return codes
    }
  }

  /// Takes the bytes that follow.
  /// - Throws: `malformed` if a byte stands for no codes.
  package mutating func append(_ bytes: UnsafeRawBufferPointer) throws(QMError) {
    guard !bytes.isEmpty else { return }
    guard let target = elements.baseAddress else { throw .malformed("data of no elements") }
    switch layout {
    case .plain:
      UnsafeMutableRawBufferPointer(rebasing: elements[position...]).copyMemory(from: bytes)
    case .bits(let width): try appendBits(bytes, width: width.bits, to: target)
    case .digits(let radix, _): try appendDigits(bytes, radix: radix, to: target)
    case .planes: appendPlanes(bytes, differences: false)
    case .planeDifferences: appendPlanes(bytes, differences: true)
    }
    position += bytes.count
  }

  private func appendBits(
    _ bytes: UnsafeRawBufferPointer, width: Int, to target: UnsafeMutableRawPointer
  ) throws(QMError) {
    let first = position / width * 8
    let groups = min(bytes.count / width, (elements.count - first) / 8)
    var wide = groups
    if width == 4, Int(bitPattern: target) % 2 == 0, let source = bytes.baseAddress {
      // Two codes a byte: a loop that goes by vectors.
      let source = source.assumingMemoryBound(to: UInt8.self)
      let pairs = (target + first).assumingMemoryBound(to: UInt16.self)
      for byte in 0..<4 * groups {
        let both = UInt16(truncatingIfNeeded: source[byte])
        let fields = (both | both << 4) & 0x0F0F
        pairs[byte] = ((((fields ^ 0x0808) | 0x8080) &- 0x0808) ^ 0x8080).littleEndian
      }
    } else {
      let spread = FieldSpread(width: width)
      // Eight bytes are read for the `width` that hold a group.
      wide = bytes.count < 8 ? 0 : min(groups, (bytes.count - 8) / width + 1)
      for group in 0..<wide {
        let bits = bytes.loadUnaligned(fromByteOffset: group * width, as: UInt64.self)
        let codes = spread.codes(UInt64(littleEndian: bits))
        target.storeBytes(of: codes.littleEndian, toByteOffset: first + 8 * group, as: UInt64.self)
      }
    }
    var (pending, pendingBits, place) = (0, 0, wide * width)
    let shift = Int.bitWidth - width
    let last = first + min(elements.count - first, bytes.count * 8 / width)
    for index in first + 8 * wide..<last {
      while pendingBits < width {
        pending |= Int(bytes[place]) << pendingBits
        place += 1
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

  private func appendDigits(
    _ bytes: UnsafeRawBufferPointer, radix: Int, to target: UnsafeMutableRawPointer
  ) throws(QMError) {
    let count = DataLayout.digitsPerByte(radix: radix)
    let combinations = DataLayout.combinations(radix: radix, digits: count)
    var index = position * count
    try digits.withUnsafeBufferPointer { (digits) throws(QMError) in
      for byte in bytes {
        let own = min(count, elements.count - index)
        let allowed =
          own == count ? combinations : DataLayout.combinations(radix: radix, digits: own)
        guard Int(byte) < allowed else {
          throw .malformed("byte \(byte) stands for no \(own) digits of radix \(radix)")
        }
        let codes = digits[Int(byte)]
        if index + 8 <= elements.count {
          // What is written beyond the digits, the next bytes write again.
          target.storeBytes(of: codes.littleEndian, toByteOffset: index, as: UInt64.self)
        } else {
          for digit in 0..<own {
            elements[index + digit] = UInt8(truncatingIfNeeded: codes >> UInt64(8 * digit))
          }
        }
        index += own
      }
    }
  }

  private mutating func appendPlanes(_ bytes: UnsafeRawBufferPointer, differences: Bool) {
    let count = elements.count / size
    var (plane, index) = position.quotientAndRemainder(dividingBy: count)
    var (place, sum) = (0, sum)
    while place < bytes.count {
      let length = min(count - index, bytes.count - place)
      for step in 0..<length {
        let byte = bytes[place + step]
        sum = differences ? sum &+ byte : byte
        elements[(index + step) * size + plane] = sum
      }
      place += length
      (plane, index) = (plane + 1, 0)
    }
    self.sum = sum
  }
}

/// Eight codes of a few bits, taken apart in one word.
private struct FieldSpread {
  private let width: UInt64
  private let fours: UInt64
  private let twos: UInt64
  private let ones: UInt64
  /// The sign bit of each code.
  private let signs: UInt64
  private static let high: UInt64 = 0x8080_8080_8080_8080

  init(width: Int) {
    self.width = UInt64(width)
    func lanes(_ bits: UInt64, apart: UInt64) -> UInt64 {
      stride(from: 0, to: 64, by: UInt64.Stride(apart)).reduce(0) { $0 | bits << UInt64($1) }
    }
    fours = (1 << (4 * self.width)) - 1
    twos = lanes((1 << (2 * self.width)) - 1, apart: 32)
    ones = lanes((1 << self.width) - 1, apart: 16)
    signs = lanes(1 << (self.width - 1), apart: 8)
  }

  /// The codes, one a byte with its sign, of the lowest `8 · width` bits.
  func codes(_ bits: UInt64) -> UInt64 {
    guard width < 8 else { return bits }
    var fields = (bits & fours) | ((bits >> (4 * width)) & fours) << 32
    fields = (fields & twos) | ((fields >> (2 * width)) & twos) << 16
    fields = (fields & ones) | ((fields >> width) & ones) << 8
    // Byte by byte (field ^ sign) − sign, where the highest bit keeps bytes from borrowing.
    return (((fields ^ signs) | Self.high) &- signs) ^ Self.high
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

import QMTensor

/// How the elements of a data section are arranged as bytes before they are deflated. Deflate codes
/// whole bytes, so the arrangement determines the compressed size.
public enum DataLayout: Hashable, Sendable {
  /// Element after element, little-endian.
  case plain
  /// Codes of this many bits in two's complement, packed without gaps from the lowest bit of each
  /// byte up; the last byte is padded with zero bits.
  case bits(BitWidth)
  /// Several whole codes per byte: `Σ (code[i] − minimum) · radixⁱ` over the k codes of the byte,
  /// where k is the largest number with `radixᵏ ≤ 256`. The last byte may hold fewer codes.
  case digits(radix: Int, minimum: Int)
  /// The first bytes of all elements, then the second bytes, and so on.
  case planes
  /// As ``planes``; then each byte is replaced by its difference from the byte before it.
  case planeDifferences
  /// Integers as ``planes``, after their sign was moved to the lowest bit: 0, −1, 1, −2, … become 0, 1,
  /// 2, 3, … so that the high bytes of small numbers are 0.
  case signPlanes
  /// A table of tuples of codes, then the codes of tuples that are not in the table, then one byte for
  /// each tuple of the stream.
  case tuples(TupleTable)

  /// A radix above 16 leaves room for only one digit per byte.
  package static let radixes = 2...16

  /// The number of the layout in files.
  var number: UInt8 {
    switch self {
    case .plain: 0
    case .bits: 1
    case .digits: 2
    case .planes: 3
    case .planeDifferences: 4
    case .signPlanes: 5
    case .tuples: 6
    }
  }

  fileprivate static func digitsPerByte(radix: Int) -> Int {
    var (digits, combinations) = (1, radix)
    while combinations * radix <= 256 {
      (digits, combinations) = (digits + 1, combinations * radix)
    }
    return digits
  }

  /// Size of `count` elements in this layout, in bytes.
  package func byteCount(of elementType: ElementType, count: Int) -> Int {
    switch self {
    case .plain, .planes, .planeDifferences, .signPlanes: return count * elementType.byteCount
    case .tuples(let table): return table.byteCount(of: count)
    case .bits(let width):
      let (whole, rest) = count.quotientAndRemainder(dividingBy: 8)
      return whole * width.bits + (rest * width.bits + 7) / 8
    case .digits(let radix, _):
      let digits = DataLayout.digitsPerByte(radix: radix)
      return count / digits + (count % digits == 0 ? 0 : 1)
    }
  }

  /// Whether the layout can hold elements of the type.
  func admits(_ elementType: ElementType) -> Bool {
    switch self {
    case .plain, .planes, .planeDifferences: true
    case .bits, .digits, .tuples: elementType == .int8
    case .signPlanes: elementType == .int16 || elementType == .int32 || elementType == .int64
    }
  }

  /// Where the bytes of `count` elements may change their distribution.
  func boundaries(of elementType: ElementType, count: Int) -> [Int] {
    switch self {
    case .planes, .planeDifferences, .signPlanes:
      (1..<max(elementType.byteCount, 1)).map { $0 * count }
    case .tuples(let table): table.boundaries
    case .plain, .bits, .digits: []
    }
  }

  // MARK: Writing

  /// The bytes of `elements` in this layout.
  /// - Parameter elements: in memory order, which is little-endian on every supported platform.
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
    case .signPlanes:
      return DataLayout.planes.encoded(
        SignBits.lowered(elements, elementType.byteCount), elementType)
    case .tuples(let table):
      return TupleTable.encoded(elements, size: table.size)?.bytes ?? []
    }
  }

  /// The elements of a section in the layout that suits them.
  package struct Encoded: Sendable {
    /// The layout.
    package let layout: DataLayout
    /// The bytes in this layout.
    package let bytes: [UInt8]
    /// Where their distribution may change.
    package let boundaries: [Int]
    /// ``estimatedBitCount(_:boundaries:)``.
    package let bitCount: Int
  }

  /// The layout with the lowest ``estimatedBitCount(_:boundaries:)``; the first if several are equal. It
  /// depends only on the elements, so that the content digest of a program does not depend on the
  /// version of zlib.
  /// - Parameter width: of weight codes; nil for other elements.
  package static func best(
    for elements: [UInt8], _ elementType: ElementType, width: BitWidth?
  ) -> Encoded {
    let count = elements.count / elementType.byteCount
    func encoded(_ layout: DataLayout, _ bytes: [UInt8]) -> Encoded {
      let boundaries = layout.boundaries(of: elementType, count: count)
      let bitCount = estimatedBitCount(bytes, boundaries: boundaries)
      return Encoded(layout: layout, bytes: bytes, boundaries: boundaries, bitCount: bitCount)
    }
    var best = encoded(.plain, elements)
    func offer(_ layout: DataLayout, _ bytes: [UInt8]) {
      let offered = encoded(layout, bytes)
      if offered.bitCount < best.bitCount { best = offered }
    }
    for layout in candidates(for: elements, elementType, width: width) {
      offer(layout, layout.encoded(elements, elementType))
    }
    if elementType == .int8, !elements.isEmpty {
      for size in TupleTable.sizes(for: elements, bits: best.bitCount) {
        guard let (table, bytes) = TupleTable.encoded(elements, size: size) else { continue }
        offer(.tuples(table), bytes)
      }
    }
    return best
  }

  private static func candidates(
    for elements: [UInt8], _ elementType: ElementType, width: BitWidth?
  ) -> [DataLayout] {
    var candidates: [DataLayout] = []
    if let width, width < .eight { candidates.append(.bits(width)) }
    let codes = elements.lazy.map { Int(Int8(bitPattern: $0)) }
    if elementType == .int8, let minimum = codes.min(), let maximum = codes.max() {
      // Every digit must be a valid int8 code, even if it does not occur: then a reader need not
      // check each one.
      let radix = max(2, maximum - minimum + 1)
      if radixes.contains(radix) {
        candidates.append(.digits(radix: radix, minimum: min(minimum, 127 - (radix - 1))))
      }
    }
    if elementType.byteCount > 1 { candidates.append(.planes) }
    if DataLayout.signPlanes.admits(elementType) { candidates.append(.signPlanes) }
    return candidates + [.planeDifferences]
  }

  // MARK: Reading

  /// Decodes the content of a section into `elements`, which it must fill exactly.
  /// - Throws: `malformed` if a byte does not encode codes of the layout.
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

/// Decodes the content of a data section that arrives part by part.
package struct DataDecoder {
  /// The size of every part but the last is a multiple of this. It is divisible by 1 to 8, so that
  /// no part ends within a group of eight `.bits` codes, which takes as many bytes as one code has
  /// bits.
  package static let partByteCount = 840 << 6

  private let layout: DataLayout
  private let size: Int
  private let elements: UnsafeMutableRawBufferPointer
  /// Number of bytes decoded so far.
  private var position = 0
  /// Sum of all differences so far.
  private var sum: UInt8 = 0
  /// The codes that each byte encodes, one per byte of the word, the first in the lowest byte.
  private let digits: [UInt64]
  private var tuples = TupleDecoder()

  /// A decoder that writes into `elements`, which it fills exactly and which must outlive it.
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

  /// Decodes the next part.
  /// - Throws: `malformed` if a byte does not encode codes of the layout.
  package mutating func append(_ bytes: UnsafeRawBufferPointer) throws(QMError) {
    guard !bytes.isEmpty else { return }
    guard let target = elements.baseAddress else {
      throw .malformed("the data section has bytes but no elements")
    }
    switch layout {
    case .plain:
      UnsafeMutableRawBufferPointer(rebasing: elements[position...]).copyMemory(from: bytes)
    case .bits(let width): try appendBits(bytes, width: width.bits, to: target)
    case .digits(let radix, _): try appendDigits(bytes, radix: radix, to: target)
    case .planes, .signPlanes: appendPlanes(bytes, differences: false)
    case .planeDifferences: appendPlanes(bytes, differences: true)
    case .tuples(let table): try tuples.append(bytes, table, to: elements)
    }
    position += bytes.count
    if layout == .signPlanes, position == elements.count { SignBits.raise(elements, size) }
  }

  private func appendBits(
    _ bytes: UnsafeRawBufferPointer, width: Int, to target: UnsafeMutableRawPointer
  ) throws(QMError) {
    let first = position / width * 8
    let groups = min(bytes.count / width, (elements.count - first) / 8)
    /// Number of groups of eight codes that are decoded word by word.
    var wordGroups = groups
    if width == 4, Int(bitPattern: target) % 2 == 0, let source = bytes.baseAddress {
      // Two codes per byte: a loop that the compiler vectorizes.
      let source = source.assumingMemoryBound(to: UInt8.self)
      let pairs = (target + first).assumingMemoryBound(to: UInt16.self)
      for byte in 0..<4 * groups {
        let both = UInt16(truncatingIfNeeded: source[byte])
        let fields = (both | both << 4) & 0x0F0F
        pairs[byte] = ((((fields ^ 0x0808) | 0x8080) &- 0x0808) ^ 0x8080).littleEndian
      }
    } else {
      let spread = FieldSpread(width: width)
      // Reads 8 bytes although a group takes only `width` of them.
      wordGroups = bytes.count < 8 ? 0 : min(groups, (bytes.count - 8) / width + 1)
      for group in 0..<wordGroups {
        let bits = bytes.loadUnaligned(fromByteOffset: group * width, as: UInt64.self)
        let codes = spread.codes(UInt64(littleEndian: bits))
        target.storeBytes(of: codes.littleEndian, toByteOffset: first + 8 * group, as: UInt64.self)
      }
    }
    var (pending, pendingBits, place) = (0, 0, wordGroups * width)
    let shift = Int.bitWidth - width
    let last = first + min(elements.count - first, bytes.count * 8 / width)
    for index in first + 8 * wordGroups..<last {
      while pendingBits < width {
        pending |= Int(bytes[place]) << pendingBits
        place += 1
        pendingBits += 8
      }
      // The two shifts extend the sign.
      elements[index] = UInt8(truncatingIfNeeded: (pending << shift) >> shift)
      pending >>= width
      pendingBits -= width
    }
    guard pending == 0 else {
      throw .malformed("the last byte of packed codes is not padded with zero bits")
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
          throw .malformed("byte \(byte) does not encode \(own) digits of radix \(radix)")
        }
        let codes = digits[Int(byte)]
        if index + 8 <= elements.count {
          // Also writes past the digits of this byte; the next bytes overwrite that.
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

/// Unpacks eight codes of `width` bits into one 64-bit word, in three steps: it separates two
/// groups of four codes, then four groups of two, then eight codes.
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

  /// The eight codes in the lowest `8 · width` bits, each sign-extended to one byte.
  func codes(_ bits: UInt64) -> UInt64 {
    guard width < 8 else { return bits }
    var fields = (bits & fours) | ((bits >> (4 * width)) & fours) << 32
    fields = (fields & twos) | ((fields >> (2 * width)) & twos) << 16
    fields = (fields & ones) | ((fields >> width) & ones) << 8
    // In each byte (field ^ sign) − sign; the highest bit keeps bytes from borrowing.
    return (((fields ^ signs) | Self.high) &- signs) ^ Self.high
  }
}

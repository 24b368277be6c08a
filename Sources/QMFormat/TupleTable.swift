import QMTensor

/// The sizes of the layout that stores several codes as one byte: the most frequent tuples of codes
/// have a number each.
///
/// Huffman codes have words of whole bits, so that a code that most weights have takes a bit although
/// it carries less. A word for several codes wastes a part of a bit on all of them together.
public struct TupleTable: Hashable, Sendable {
  /// Number of codes in a tuple, 2 to 8.
  public let size: Int
  /// Number of tuples in the table, 1 to 256, or to 255 if there are escapes.
  public let count: Int
  /// Number of tuples of the stream that are not in the table. Their byte is ``count``.
  public let escapeCount: Int

  static let sizes = 2...8

  /// - Returns: nil if the numbers contradict each other.
  init?(size: Int, count: Int, escapeCount: Int) {
    guard TupleTable.sizes.contains(size), count >= 1, count <= (escapeCount > 0 ? 255 : 256),
      (0...1 << 48).contains(escapeCount)
    else { return nil }
    (self.size, self.count, self.escapeCount) = (size, count, escapeCount)
  }

  /// Size of `count` codes in this layout, in bytes.
  func byteCount(of count: Int) -> Int {
    size * (self.count + escapeCount) + count / size + (count % size == 0 ? 0 : 1)
  }

  /// The ends of the table and of the escaped codes.
  var boundaries: [Int] { [size * count, size * (count + escapeCount)] }

  // MARK: Writing

  /// The sizes that may make codes smaller.
  /// - Parameter bits: the size that is known so far.
  static func sizes(for codes: [UInt8], bits: Int) -> [Int] {
    var counts = [Int](repeating: 0, count: 256)
    for code in codes { counts[Int(code)] += 1 }
    let entropy = Entropy.bits(counts)
    // What a table of few tuples takes.
    guard bits - entropy > max(entropy / 256, 256) else { return [] }
    switch 16 * entropy / codes.count {
    case ..<6: return [6, 8]
    case ..<12: return [4, 6]
    case ..<18: return [2, 3, 4]
    case ..<28: return [2, 3]
    default: return [2]
    }
  }

  /// The table of the most frequent tuples of some codes, and the codes in this layout.
  /// - Parameter codes: at least one.
  /// - Returns: nil if most tuples would not be in the table.
  package static func encoded(_ codes: [UInt8], size: Int) -> (table: TupleTable, bytes: [UInt8])? {
    let tuples = Tuples(codes, size: size)
    guard let (kept, escapeCount) = tuples.mostFrequent(),
      let table = TupleTable(size: size, count: kept.count, escapeCount: escapeCount)
    else { return nil }
    var bytes = kept.flatMap(tuples.codes)
    let numbers = Dictionary(uniqueKeysWithValues: zip(kept, 0...))
    var stream: [UInt8] = []
    stream.reserveCapacity(tuples.all.count)
    for tuple in tuples.all {
      if let number = numbers[tuple] {
        stream.append(UInt8(number))
      } else {
        stream.append(UInt8(kept.count))
        bytes += tuples.codes(tuple)
      }
    }
    return (table, bytes + stream)
  }
}

/// The tuples of a stream of codes, as numbers whose digits are the ranks of the codes.
private struct Tuples {
  /// The codes that occur and 0, in the order of their bytes.
  private let symbols: [UInt8]
  private let size: Int
  /// The tuples of the stream; the last is filled with codes 0.
  let all: [UInt64]

  init(_ codes: [UInt8], size: Int) {
    self.size = size
    var ranks = [UInt64](repeating: 0, count: 256)
    ranks[0] = 1
    for code in codes { ranks[Int(code)] = 1 }
    let symbols = (0...255).filter { ranks[Int($0)] > 0 } as [UInt8]
    for (rank, symbol) in symbols.enumerated() { ranks[Int(symbol)] = UInt64(rank) }
    let radix = UInt64(symbols.count)
    self.symbols = symbols
    all = stride(from: 0, to: codes.count, by: size).map { start in
      var tuple: UInt64 = 0
      for index in start..<start + size {
        // The ranks of eight codes of 256 fill 64 bits.
        tuple = tuple &* radix &+ (index < codes.count ? ranks[Int(codes[index])] : ranks[0])
      }
      return tuple
    }
  }

  /// The tuples for the table, ascending, and how many tuples are none of them; nil if most are.
  func mostFrequent() -> (kept: [UInt64], escapeCount: Int)? {
    var kept = counted()
    if kept.count > 256 {
      kept.sort { ($1.count, $0.tuple) < ($0.count, $1.tuple) }
      kept.removeLast(kept.count - 255)
    }
    let known = kept.reduce(0) { $0 + $1.count }
    guard 2 * known >= all.count else { return nil }
    return (kept.map(\.tuple).sorted(), all.count - known)
  }

  private func counted() -> [(tuple: UInt64, count: Int)] {
    var numbers = 1
    for _ in 0..<size where numbers <= 1 << 16 { numbers *= symbols.count }
    if numbers <= 1 << 16 {
      var counts = [Int](repeating: 0, count: numbers)
      for tuple in all { counts[Int(tuple)] += 1 }
      return counts.indices.filter { counts[$0] > 0 }.map { (UInt64($0), counts[$0]) }
    }
    var counts: [UInt64: Int] = [:]
    for tuple in all { counts[tuple, default: 0] += 1 }
    return counts.map { ($0.key, $0.value) }
  }

  func codes(_ tuple: UInt64) -> [UInt8] {
    var rest = tuple
    var codes: [UInt8] = []
    for _ in 0..<size {
      let (quotient, rank) = rest.quotientAndRemainder(dividingBy: UInt64(symbols.count))
      codes.append(symbols[Int(rank)])
      rest = quotient
    }
    return codes.reversed()
  }
}

/// Decodes the layout of a ``TupleTable`` that arrives part by part.
struct TupleDecoder {
  /// The table, then the escaped codes.
  private var head: [UInt8] = []
  private var nextEscape = 0
  private var index = 0

  /// - Throws: `malformed` for a number without a tuple, for too many or too few escapes, and for codes
  ///   after the last that are not 0.
  mutating func append(
    _ bytes: UnsafeRawBufferPointer, _ table: TupleTable,
    to elements: UnsafeMutableRawBufferPointer
  ) throws(QMError) {
    let size = table.size
    let ofHead = min(size * (table.count + table.escapeCount) - head.count, bytes.count)
    head += bytes[..<ofHead]
    for byte in bytes[ofHead...] {
      var number = Int(byte)
      if number == table.count, nextEscape < table.escapeCount {
        number += nextEscape
        nextEscape += 1
      } else if number >= table.count {
        throw .malformed("byte \(byte) is no number of a tuple; there are \(table.count)")
      }
      for code in head[size * number..<size * (number + 1)] {
        if index < elements.count {
          elements[index] = code
        } else if code != 0 {
          throw .malformed("the last tuple is not filled with zeros")
        }
        index += 1
      }
    }
    if index >= elements.count, nextEscape < table.escapeCount {
      throw .malformed(
        "\(table.escapeCount) tuples outside the table, expected \(nextEscape) by the data")
    }
  }
}

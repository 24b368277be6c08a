import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The numbers of a CSV file as RFC 4180 has it: records of cells separated by commas, quotes around
/// cells that hold commas, quotes (doubled) or line breaks; all records have the same number of cells.
/// Lines end with LF or CR LF; a byte order mark in front is skipped.
public struct CSVTable: Sendable {
  /// Whether the first record names the columns.
  public enum Header: String, Hashable, Sendable, CaseIterable {
    /// If none of its cells is a number.
    case auto
    case yes, no
  }

  /// The names of the columns; nil without a header.
  public let names: [String]?
  /// Number of records without the header.
  public let rowCount: Int
  /// The indices of the columns that were read.
  public let columns: [Int]
  /// `rowCount` × `columns.count` numbers.
  let numbers: Tensor

  /// Reads columns of numbers.
  /// - Parameters:
  ///   - columns: names, indices from 0, or ranges of indices (`0-3`), separated by commas; nil means
  ///     all columns but those of `others`.
  ///   - others: names of columns to read behind these, where the table has them.
  /// - Throws: `cannotOpen`, `outOfMemory`; `unsupported` beyond a limit; `malformed` for a cell that is no finite number, or a record
  ///   of another number of cells, with line and column; `invalidInput` for a column that is not there.
  ///   The path is the context.
  public init(
    path: String, header: Header = .auto, columns: String? = nil, others: [String] = [],
    limits: MediaLimits = .standard
  ) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) -> CSVTable in
      try CSVTable(
        bytes: limits.content(of: path), header: header, columns: columns, others: others,
        limits: limits)
    }
  }

  /// Reads columns of a table in memory.
  /// - Throws: as ``init(path:header:columns:others:limits:)``, without the path.
  public init(
    bytes: Buffer, header: Header = .auto, columns: String? = nil, others: [String] = [],
    limits: MediaLimits = .standard
  ) throws(QMError) {
    defer { withExtendedLifetime(bytes) {} }
    let file = UnsafeRawBufferPointer(bytes.bytes)
    var records = CSVRecords(file, cellLimit: limits.columnCount)
    guard let first = try records.next() else { throw .malformed("the table is empty") }
    let isNamed =
      switch header {
      case .yes: true
      case .no: false
      case .auto: first.cells.allSatisfy { CSVTable.number($0) == nil }
      }
    names = isNamed ? first.cells.map { String(decoding: $0, as: UTF8.self) } : nil
    let taken = try CSVTable.indices(columns, names, first.cells.count, others)
    self.columns = taken

    // Counted first, so that a table that is too much for memory is an error.
    var count = isNamed ? 0 : 1
    while let row = try records.next() {
      guard row.cells.count == first.cells.count else {
        throw .malformed(
          "line \(row.line) has \(row.cells.count) cells, line \(first.line) has "
            + "\(first.cells.count)")
      }
      count += 1
    }
    guard count > 0, !taken.isEmpty else { throw .malformed("the table has no rows of numbers") }
    rowCount = count
    numbers = try Tensor(zeros: .float32, [count, taken.count])

    records = CSVRecords(file, cellLimit: limits.columnCount)
    if isNamed { _ = try records.next() }
    let elements = numbers.buffer.base.assumingMemoryBound(to: Float.self)
    for row in 0..<count {
      guard let record = try records.next() else { break }
      for (place, column) in taken.enumerated() {
        guard let number = CSVTable.number(record.cells[column]) else {
          throw CSVTable.refusal(record.cells[column], line: record.line, column: column, names)
        }
        elements[row * taken.count + place] = number
      }
    }
  }

  /// A cell as a number: decimal, finite in float32. Space around it is skipped.
  private static func number(_ cell: [UInt8]) -> Float? {
    let text = cell.trimmed
    let allowed = text.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"),
        UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
        true
      default: false
      }
    }
    guard allowed, let number = Float(String(decoding: text, as: UTF8.self)), number.isFinite else {
      return nil
    }
    return number
  }

  private static func refusal(
    _ cell: [UInt8], line: Int, column: Int, _ names: [String]?
  ) -> QMError {
    let name = names.map { " ('\($0[column].abbreviated)')" } ?? ""
    let text = String(decoding: cell.trimmed, as: UTF8.self)
    let found = text.isEmpty ? "is blank" : "is '\(text.abbreviated)'"
    return .malformed(
      "line \(line), column \(column)\(name) \(found); expected a finite number with a decimal point",
      remedies: .changeModel(how: "fill in or remove the row"), .statePreprocessing("columns"))
  }

  // MARK: Columns

  /// Checks the text of ``init(path:header:columns:others:limits:)`` by itself.
  /// - Throws: `usage`.
  public static func check(columns text: String) throws(QMError) {
    guard text.split(separator: ",", omittingEmptySubsequences: false).allSatisfy({ !$0.isEmpty })
    else {
      throw .usage(
        "columns '\(text.abbreviated)': expected names or indices from 0, as in width,height or 0-3"
      )
    }
  }

  private static func indices(
    _ text: String?, _ names: [String]?, _ count: Int, _ others: [String]
  ) throws(QMError) -> [Int] {
    let places = Dictionary(
      (names ?? []).enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    let behind = others.compactMap { places[$0] }
    guard let text else {
      let others = Set(behind)
      return (0..<count).filter { !others.contains($0) } + behind
    }
    try check(columns: text)
    var indices: [Int] = []
    // Twice the same would let a short text ask for any amount of memory.
    var seen: Set<Int> = []
    func take(_ range: ClosedRange<Int>) throws(QMError) {
      for index in range {
        guard seen.insert(index).inserted else {
          throw .invalidInput("column \(index) is there twice; name each column once")
        }
        indices.append(index)
      }
    }
    for part in text.split(separator: ",") {
      if let index = places[String(part)] {
        try take(index...index)
        continue
      }
      let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        .map { Int($0) }
      guard let first = ends[0], let last = ends.count == 2 ? ends[1] : first, first >= 0,
        first <= last, last < count
      else {
        throw .invalidInput(
          "no column '\(String(part).abbreviated)'; the table has \(count) columns"
            + (names.map { ": \($0.listed)" } ?? ", from 0, without names"))
      }
      try take(first...last)
    }
    return indices + behind
  }
}

/// The records of a CSV file, one after another.
private struct CSVRecords {
  struct Record {
    /// The line that it begins on, from 1.
    let line: Int
    let cells: [[UInt8]]
  }

  private let bytes: UnsafeRawBufferPointer
  private let cellLimit: Int
  private var index: Int
  private var line = 1

  /// - Parameter cellLimit: maximum number of cells of a record.
  init(_ bytes: UnsafeRawBufferPointer, cellLimit: Int) {
    self.bytes = bytes
    self.cellLimit = cellLimit
    index = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
  }

  /// The next record; nil if only line breaks are left.
  /// - Throws: `malformed` for a quote that is not closed, or in a cell that does not begin with one;
  ///   `unsupported` for too many cells.
  mutating func next() throws(QMError) -> Record? {
    guard bytes[index...].contains(where: { !isLineBreak($0) }) else { return nil }
    let start = line
    var cells: [[UInt8]] = []
    while true {
      guard cells.count < cellLimit else {
        throw .unsupported("line \(line) has more than \(cellLimit) cells")
      }
      cells.append(try cell())
      guard index < bytes.count else { break }
      let separator = bytes[index]
      index += 1
      if separator == UInt8(ascii: ",") { continue }
      if separator == 13, index < bytes.count, bytes[index] == 10 { index += 1 }
      line += 1
      break
    }
    return Record(line: start, cells: cells)
  }

  private func isLineBreak(_ byte: UInt8) -> Bool { byte == 10 || byte == 13 }

  /// One cell; what follows it is a comma, a line break or the end.
  private mutating func cell() throws(QMError) -> [UInt8] {
    let quote = UInt8(ascii: "\"")
    guard index < bytes.count, bytes[index] == quote else {
      let start = index
      while index < bytes.count, bytes[index] != UInt8(ascii: ","), !isLineBreak(bytes[index]) {
        guard bytes[index] != quote else { throw damage("a quote inside of a cell") }
        index += 1
      }
      return Array(bytes[start..<index])
    }
    let began = line
    index += 1
    var cell: [UInt8] = []
    while index < bytes.count {
      let byte = bytes[index]
      index += 1
      if byte == quote {
        guard index < bytes.count, bytes[index] == quote else {
          guard
            index == bytes.count || bytes[index] == UInt8(ascii: ",") || isLineBreak(bytes[index])
          else { throw damage("something behind the end of a quoted cell") }
          return cell
        }
        index += 1
      }
      if byte == 10 { line += 1 }
      cell.append(byte)
    }
    throw QMError.malformed("a quoted cell that begins on line \(began) has no end")
  }

  private func damage(_ text: String) -> QMError {
    .malformed("line \(line): \(text); expected quotes around whole cells, doubled inside")
  }
}

extension [UInt8] {
  /// Without spaces and tabs at both ends.
  fileprivate var trimmed: ArraySlice<UInt8> {
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 9 }
    let start = drop(while: isSpace)
    return start.prefix(upTo: (start.lastIndex { !isSpace($0) } ?? start.startIndex - 1) + 1)
  }
}

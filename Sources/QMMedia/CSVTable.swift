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
  /// Cells of a record.
  public let columnCount: Int
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
  /// - Throws: `cannotOpen`, `outOfMemory`; `malformed` for a cell that is no finite number, or a record
  ///   of another number of cells, with line and column; `invalidInput` for a column that is not there.
  ///   The path is the context.
  public init(
    path: String, header: Header = .auto, columns: String? = nil, others: [String] = [],
    limits: MediaLimits = .standard
  ) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) -> CSVTable in
      try CSVTable(
        bytes: limits.content(of: path), header: header, columns: columns, others: others)
    }
  }

  /// Reads columns of a table in memory.
  /// - Throws: as ``init(path:header:columns:others:limits:)``, without the path.
  public init(
    bytes: Buffer, header: Header = .auto, columns: String? = nil, others: [String] = []
  ) throws(QMError) {
    defer { withExtendedLifetime(bytes) {} }
    let file = UnsafeRawBufferPointer(bytes.bytes)
    var records = CSVRecords(file)
    guard let first = try records.next() else { throw .malformed("the table is empty") }
    let isNamed =
      switch header {
      case .yes: true
      case .no: false
      case .auto: first.cells.allSatisfy { CSVTable.number($0) == nil }
      }
    names = isNamed ? first.cells.map { String(decoding: $0, as: UTF8.self) } : nil
    columnCount = first.cells.count
    let taken = try CSVTable.indices(columns, names, columnCount, others)
    self.columns = taken

    // Room for every line, so that what is too much is an error.
    let lines = file.count { $0 == 10 || $0 == 13 } + 1
    let room = try Tensor(zeros: .float32, [lines, taken.count])
    let numbers = room.buffer.base.assumingMemoryBound(to: Float.self)
    var count = 0
    var record = isNamed ? try records.next() : first
    while let row = record {
      guard row.cells.count == columnCount else {
        throw .malformed(
          "line \(row.line) has \(row.cells.count) cells, line \(first.line) has \(columnCount)")
      }
      for column in taken {
        guard let number = CSVTable.number(row.cells[column]) else {
          throw CSVTable.refusal(row.cells[column], line: row.line, column: column, names)
        }
        numbers[count] = number
        count += 1
      }
      record = try records.next()
    }
    rowCount = taken.isEmpty ? 0 : count / taken.count
    guard rowCount > 0 else { throw .malformed("the table has no rows of numbers") }
    self.numbers = try Tensor(.float32, [rowCount, taken.count], buffer: room.buffer)
  }

  /// The index of a column by its name.
  func index(of name: String) -> Int? { names?.firstIndex(of: name) }

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
    let behind = others.compactMap { name in names?.firstIndex(of: name) }
    guard let text else { return (0..<count).filter { !behind.contains($0) } + behind }
    try check(columns: text)
    var indices: [Int] = []
    for part in text.split(separator: ",") {
      if let index = names?.firstIndex(of: String(part)) {
        indices.append(index)
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
      indices += first...last
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
  private var index: Int
  private var line = 1

  init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
    index = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
  }

  /// The next record; nil if only line breaks are left.
  /// - Throws: `malformed` for a quote that is not closed, or in a cell that does not begin with one.
  mutating func next() throws(QMError) -> Record? {
    guard bytes[index...].contains(where: { !isLineBreak($0) }) else { return nil }
    let start = line
    var cells: [[UInt8]] = []
    while true {
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

import QMOperations
import QMTensor

extension Program.Metadata {
  func encoded() -> [UInt8] {
    var writer = ByteWriter()
    writer.string(producer)
    writer.string(sourceName)
    writer.varint(sourceDigest.count)
    writer.append(sourceDigest)
    writer.entries(recipe)
    writer.varint(measurements.count)
    for measurement in measurements {
      writer.varint(measurement.output)
      writer.part(measurement.part)
      writer.code(measurement.measure)
      writer.float(measurement.value)
      writer.varint(measurement.sampleCount)
    }
    for keys in [inputKeys, outputKeys] {
      writer.varint(keys.count)
      for key in keys { writer.string(key) }
    }
    writer.varint(notes.count)
    for note in notes {
      writer.code(note.mode)
      writer.string(note.reason)
    }
    writer.entries(entries)
    return writer.bytes
  }

  init(from reader: inout ByteReader, _ limits: DecodingLimits) throws(QMError) {
    self.init()
    producer = try reader.string()
    sourceName = try reader.string()
    sourceDigest = Array(try reader.take(reader.count(of: "bytes of a digest", limit: 32)))
    recipe = try reader.entries(limits)
    for _ in 0..<(try reader.count(of: "measurements", limit: limits.valueCount, byteCount: 8)) {
      measurements.append(
        Measurement(
          output: try reader.varint(), part: try reader.part(limits),
          try reader.code("measure", as: Measure.self),
          try reader.float(), sampleCount: try reader.varint()))
    }
    for _ in 0..<(try reader.count(of: "keys", limit: limits.operandCount)) {
      inputKeys.append(try reader.string())
    }
    for _ in 0..<(try reader.count(of: "keys", limit: limits.operandCount)) {
      outputKeys.append(try reader.string())
    }
    for _ in 0..<(try reader.count(of: "notes", limit: limits.nodeCount, byteCount: 2)) {
      notes.append(
        Note(try reader.code("execution mode", as: ExecutionMode.self), reason: try reader.string())
      )
    }
    entries = try reader.entries(limits)
  }
}

extension ByteWriter {
  fileprivate mutating func part(_ part: Program.Metadata.Part?) {
    flag(part != nil)
    guard let part else { return }
    code(part.form)
    flag(part.isNextStep)
    string(part.value)
    varint(part.ranges.count)
    if part.hasAxis { signed(part.axis) }
    for range in part.ranges {
      varint(range.lowerBound)
      varint(range.count)
    }
  }

  fileprivate mutating func entries(_ entries: [Program.Metadata.Entry]) {
    varint(entries.count)
    for entry in entries {
      string(entry.key)
      string(entry.value)
    }
  }
}

extension ByteReader {
  fileprivate mutating func part(
    _ limits: DecodingLimits
  ) throws(QMError) -> Program.Metadata.Part? {
    guard try flag() else { return nil }
    var part = Program.Metadata.Part()
    part.form = try code("form", as: Program.Metadata.Part.Form.self)
    part.isNextStep = try flag()
    part.value = try string()
    let count = try count(of: "ranges of a part", limit: limits.operandCount, byteCount: 2)
    if count > 0 || part.form == .classLogOdds { part.axis = try signed() }
    for _ in 0..<count {
      let (first, length) = (try varint(), try varint())
      let (end, overflow) = first.addingReportingOverflow(length)
      guard !overflow else { throw .malformed("a range of \(length) from \(first) on") }
      part.ranges.append(first..<end)
    }
    return part
  }

  fileprivate mutating func entries(_ limits: DecodingLimits) throws(QMError)
    -> [Program.Metadata.Entry]
  {
    var entries: [Program.Metadata.Entry] = []
    for _ in 0..<(try count(of: "entries", limit: limits.valueCount, byteCount: 2)) {
      entries.append(Program.Metadata.Entry(try string(), try string()))
    }
    return entries
  }
}

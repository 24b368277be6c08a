import QMFormat
import QMGraph
import QMNumPy
import QMReport
import QMTensor

/// A statistics file: a NumPy `.npz` archive with the arrays that `schema/statistics.md` lists. The
/// array `header` is a JSON object.
struct StatisticsFile: Sendable {
  /// The JSON object.
  struct Header: Codable, Sendable {
    struct Place: Codable, Sendable {
      var node: Int
      var operand: Int

      init(_ place: OperandPlace) { (node, operand) = (place.node, place.operand) }
      var place: OperandPlace { OperandPlace(node: node, operand: operand) }
    }
    struct Means: Codable, Sendable {
      var place: Place
      var rows: Int
    }
    struct Moments: Codable, Sendable {
      var place: Place
      var groups: Int
      var length: Int
      var windows: Int
      var clipped: Int
    }
    struct Entry: Codable, Sendable {
      var key: String
      var value: String
    }
    struct Kept: Codable, Sendable {
      var name: String
      var digest: String
      var inputs: [String]
    }

    var version = StatisticsFile.version
    var network: String
    var samples = 0
    /// The digest of all samples.
    var source: String?
    /// The least digest of a sample that was not kept; nil if all were kept.
    var cut: String?
    var kept: [Kept] = []
    /// What the metadata of a converted file says of the samples; nil if nothing.
    var entries: [Entry]?
    var values: [Place] = []
    var means: [Means] = []
    var moments: [Moments] = []
  }

  static let version = 3
  /// Bound of all counts. No run reaches it, and sums of several counts cannot overflow.
  fileprivate static let countRange = 0..<1 << 48

  let path: String
  let header: Header
  let kept: KeptSamples
  let statistics: Statistics
  private let moments: [OperandPlace: Int]

  /// Identifies the network of the statistics: a digest of its structure after the passes and its
  /// constants.
  static func network(of graph: Graph) -> String {
    var digest = Digest()
    Array("\(version) \(graph.identity)".utf8).withUnsafeBytes { digest.update($0) }
    for value in graph.values {
      guard let constant = value.constant else { continue }
      withExtendedLifetime(constant) { digest.update(UnsafeRawBufferPointer(constant.bytes)) }
    }
    return digest.finished().hexadecimal
  }

  private static func bytes(_ hexadecimal: String) throws(QMError) -> [UInt8] {
    let digits = hexadecimal.compactMap(\.hexDigitValue)
    guard digits.count == 64, hexadecimal.count == 64 else {
      throw .malformed("'\(hexadecimal.abbreviated)' is not a SHA-256 digest of 64 digits")
    }
    return stride(from: 0, to: 64, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }

  /// Whether the samples of this file are, as a set, those of another, or seem to be among them: all
  /// kept ones that the other would have kept too are there, and they are several.
  func isPart(of other: StatisticsFile) -> Bool {
    // A single sample may occur twice in a set, but not as two whole parts.
    if kept.source == other.kept.source, header.samples == other.header.samples { return true }
    let theirs = Set(other.kept.samples.map(\.digest))
    let comparable = kept.samples.map(\.digest).filter { digest in
      other.kept.cut.map { digest.lexicographicallyPrecedes($0) } ?? true
    }
    return comparable.count > 1 && comparable.allSatisfy(theirs.contains)
  }
}

// MARK: - Writing

extension StatisticsFile {
  /// Writes a file during the runs: second moments are appended as soon as they are complete.
  struct Writer: ~Copyable {
    private var archive: NPZArchive.Writer
    private var header: Header

    init(
      path: String, network: String, entries: [Program.Metadata.Entry]
    ) throws(QMError) {
      archive = try NPZArchive.Writer(path: path, compression: .deflated)
      header = Header(network: network)
      if !entries.isEmpty {
        header.entries = entries.map { .init(key: $0.key, value: $0.value) }
      }
    }

    mutating func append(_ moments: SecondMoments, of place: OperandPlace) throws(QMError) {
      let number = header.moments.count
      header.moments.append(
        .init(
          place: .init(place), groups: moments.groupCount, length: moments.length,
          windows: moments.count, clipped: moments.clippedCount))
      try archive.append("moments.\(number).sums", tensor(of: moments.sums.elements))
      try archive.append("moments.\(number).products", tensor(of: moments.products.elements))
    }

    /// Writes everything else. The file is written completely or not at all.
    /// - Throws: `cannotWrite`.
    consuming func finish(
      _ statistics: Statistics, _ kept: KeptSamples, sampleCount: Int
    ) throws(QMError) {
      header.samples = sampleCount
      header.source = kept.source.bytes.hexadecimal
      header.cut = kept.cut.map(\.hexadecimal)
      try append(statistics)
      for (number, sample) in kept.samples.enumerated() {
        let inputs = sample.inputs.sorted { $0.key < $1.key }
        header.kept.append(
          .init(
            name: sample.name, digest: sample.digest.hexadecimal, inputs: inputs.map(\.key)))
        for (index, input) in inputs.enumerated() {
          try archive.append("kept.\(number).\(index)", input.value)
        }
      }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      guard let json = try? encoder.encode(header) else {
        throw .internalFault("the header of the statistics cannot be encoded as JSON")
      }
      try archive.append("header", Tensor([json.count], [UInt8](json)))
      try archive.finish()
    }

    private mutating func append(_ statistics: Statistics) throws(QMError) {
      let values = statistics.values.sorted { $0.key < $1.key }
      header.values = values.map { .init($0.key) }
      if !values.isEmpty {
        try archive.append(
          "values.ranges",
          Tensor([values.count, 2], values.flatMap { [$0.value.minimum, $0.value.maximum] }))
        try archive.append(
          "values.counts",
          Tensor(
            [values.count, 4],
            values.flatMap { (_, seen) -> [Int64] in
              [
                Int64(seen.elementCount), Int64(seen.nonFiniteCount),
                Int64(clamping: seen.histogram?.zeroCount ?? 0),
                seen.histogram?.exponent.map { Int64($0) } ?? .min,
              ]
            }))
        try archive.append(
          "values.histograms",
          Tensor(
            [values.count, 2 * Histogram.halfCount],
            values.flatMap { (_, seen) -> [UInt64] in (seen.histogram ?? Histogram()).counts }))
      }
      let means = statistics.means.sorted { $0.key < $1.key }
      for (number, entry) in means.enumerated() {
        header.means.append(.init(place: .init(entry.key), rows: entry.value.rowCount))
        try archive.append("means.\(number)", tensor(of: entry.value.sums))
      }
    }

    /// `[count, 2]`: the lower 64 bits of each sum, then its upper 64 bits.
    private func tensor(
      of sums: some RandomAccessCollection<Int128>
    ) throws(QMError) -> Tensor {
      try Tensor([sums.count, 2], as: UInt64.self) { words in
        for (index, sum) in sums.enumerated() {
          words[2 * index] = UInt64(truncatingIfNeeded: sum)
          words[2 * index + 1] = UInt64(truncatingIfNeeded: sum >> 64)
        }
      }
    }
  }
}

// MARK: - Reading

extension StatisticsFile {
  /// Opens a file and reads everything but the second moments.
  /// - Throws: `cannotOpen`; `malformed`, also if parts of the file contradict each other;
  ///   `unsupported` for another version.
  init(contentsOf path: String) throws(QMError) {
    let archive = try StatisticsFile.archive(path)
    guard archive.contains("header") else {
      throw .malformed(
        "the file holds arrays, expected statistics of a network", remedies: .observeAgain)
    }
    let text = try archive.tensor(named: "header")
    let header: Header
    do {
      header = try JSONDecoder().decode(Header.self, from: Data(text.bytes))
    } catch {
      throw .malformed("the header is not that of a statistics file", remedies: .observeAgain)
    }
    guard header.version == StatisticsFile.version else {
      throw .unsupported(
        "statistics of version \(header.version), expected version \(StatisticsFile.version)",
        remedies: .observeAgain)
    }
    let places =
      header.values.map(\.place) + header.means.map(\.place.place)
      + header.moments.map(\.place.place)
    let counts =
      places.flatMap { [$0.node, $0.operand] } + header.means.map(\.rows)
      + header.moments.flatMap { [$0.windows, $0.clipped] }
    guard header.samples > 0,
      (counts + [header.samples]).allSatisfy(
        StatisticsFile.countRange.contains)
    else {
      throw .malformed("the header has a count that is negative or too large, or no samples")
    }
    self.path = path
    self.header = header
    var moments: [OperandPlace: Int] = [:]
    for (number, entry) in header.moments.enumerated() { moments[entry.place.place] = number }
    self.moments = moments
    statistics = try StatisticsFile.statistics(header, archive)
    kept = try StatisticsFile.kept(header, archive)
  }

  /// The archive, without its path in errors: the caller adds it.
  private static func archive(_ path: String) throws(QMError) -> NPZArchive {
    try NPZArchive(bytes: Buffer.mapping(path: path))
  }

  /// The second moments of a place; nil if the file has none. The file is opened again, so that many
  /// files need not be open together.
  /// - Throws: `malformed`, with the path as context.
  func secondMoments(of place: OperandPlace) throws(QMError) -> SecondMoments? {
    guard let number = moments[place] else { return nil }
    return try within(.file(path)) { () throws(QMError) in
      let entry = header.moments[number]
      let archive = try StatisticsFile.archive(path)
      let sums = try StatisticsFile.sums("moments.\(number).sums", archive)
      let products = try StatisticsFile.sums("moments.\(number).products", archive)
      guard entry.groups > 0, entry.length > 0, entry.groups <= sums.count,
        entry.length <= sums.count,
        var moments = SecondMoments(
          groupCount: entry.groups, length: entry.length, sums: sums, products: products)
      else {
        throw QMError.malformed(
          "found \(sums.count) sums and \(products.count) products, which do not fit \(entry.groups) groups of \(entry.length)"
        )
      }
      moments.count = entry.windows
      moments.clippedCount = entry.clipped
      return moments
    }
  }

  private static func array<Element: TensorElement>(
    _ name: String, _ shape: [Int], of type: Element.Type, _ archive: NPZArchive
  ) throws(QMError) -> [Element] {
    let tensor = try archive.tensor(named: name)
    guard tensor.elementType == Element.elementType, tensor.shape == shape else {
      throw QMError.malformed(
        "found \(tensor.elementType)\(tensor.shape), expected \(Element.elementType)\(shape)"
      ).within(.entry(name))
    }
    return tensor.elements()
  }

  private static func sums(_ name: String, _ archive: NPZArchive) throws(QMError) -> WideIntegers {
    let tensor = try archive.tensor(named: name)
    guard tensor.elementType == .uint64, tensor.shape.count == 2, tensor.shape[1] == 2 else {
      throw QMError.malformed(
        "found \(tensor.elementType)\(tensor.shape), expected pairs of uint64"
      )
      .within(.entry(name))
    }
    let sums = try WideIntegers(count: tensor.shape[0])
    tensor.withElements(as: UInt64.self) { words in
      for index in 0..<sums.count {
        sums.elements[index] =
          Int128(truncatingIfNeeded: Int64(bitPattern: words[2 * index + 1])) << 64
          | Int128(words[2 * index])
      }
    }
    return sums
  }

  private static func statistics(
    _ header: Header, _ archive: NPZArchive
  ) throws(QMError) -> Statistics {
    var statistics = Statistics()
    let count = header.values.count
    if count > 0 {
      let bins = 2 * Histogram.halfCount
      let ranges = try array("values.ranges", [count, 2], of: Float.self, archive)
      let counts = try array("values.counts", [count, 4], of: Int64.self, archive)
      let histograms = try array("values.histograms", [count, bins], of: UInt64.self, archive)
      for (number, place) in header.values.enumerated() {
        guard
          let seen = ValueStatistics(
            minimum: ranges[2 * number], maximum: ranges[2 * number + 1],
            counts: Array(counts[4 * number..<4 * number + 4]),
            bins: Array(histograms[bins * number..<bins * (number + 1)]))
        else {
          throw QMError.malformed("range, counts and histogram \(number) contradict each other")
            .within(.entry("values.counts"))
        }
        statistics.values[place.place] = seen
      }
    }
    for (number, entry) in header.means.enumerated() {
      statistics.means[entry.place.place] = ChannelMeans(
        sums: try sums("means.\(number)", archive).array, rowCount: entry.rows)
    }
    return statistics
  }

  private static func kept(_ header: Header, _ archive: NPZArchive) throws(QMError) -> KeptSamples {
    var samples: [KeptSamples.Sample] = []
    for (number, entry) in header.kept.enumerated() {
      var inputs: [String: Tensor] = [:]
      for (index, name) in entry.inputs.enumerated() {
        inputs[name] = try archive.tensor(named: "kept.\(number).\(index)")
      }
      let digest = try bytes(entry.digest)
      guard KeptSamples.digest(of: inputs) == digest else {
        throw QMError.malformed("the sample does not match its digest")
          .within(.sample(entry.name))
      }
      samples.append(.init(name: entry.name, digest: digest, inputs: inputs))
    }
    guard !samples.isEmpty else {
      throw .malformed("the file holds no sample", remedies: .observeAgain)
    }
    guard let source = try SampleSetDigest(bytes: bytes(header.source ?? "")) else {
      throw .malformed("the header has no digest of the samples", remedies: .observeAgain)
    }
    let kept = KeptSamples(
      samples, cut: try header.cut.map { (text) throws(QMError) in try bytes(text) },
      source: source)
    guard kept.count == samples.count else {
      throw .malformed("the kept samples contradict their limits", remedies: .observeAgain)
    }
    return kept
  }
}

extension SecondMoments {
  /// - Returns: nil unless the numbers of sums and products fit the groups and the length.
  init?(groupCount: Int, length: Int, sums: WideIntegers, products: WideIntegers) {
    let (count, overflow) = groupCount.multipliedReportingOverflow(by: length)
    let (triangles, wide) = groupCount.multipliedReportingOverflow(
      by: SecondMoments.triangleCount(length: length))
    guard !overflow, !wide, sums.count == count, products.count == triangles else { return nil }
    self.groupCount = groupCount
    self.length = length
    self.sums = sums
    self.products = products
  }
}

extension ValueStatistics {
  /// - Parameters:
  ///   - counts: numbers of finite elements, of other elements and of zeros, then the exponent of
  ///     the histogram.
  ///   - bins: counts of the histogram's bins.
  /// - Returns: nil if the numbers contradict each other.
  fileprivate init?(minimum: Float, maximum: Float, counts: [Int64], bins: [UInt64]) {
    guard counts[..<3].allSatisfy({ StatisticsFile.countRange.contains(Int($0)) }),
      counts[0] == 0
        ? minimum > maximum : minimum <= maximum && minimum.isFinite && maximum.isFinite,
      let histogram = Histogram(
        counts: bins, exponent: counts[3] == .min ? nil : Int(counts[3]),
        zeroCount: UInt64(counts[2]))
    else { return nil }
    self.init(
      minimum: minimum, maximum: maximum, elementCount: Int(counts[0]),
      nonFiniteCount: Int(counts[1]), histogram: histogram)
  }
}

import QMTensor

extension CrossingSearch {
  /// Files that a search makes before it takes the best one so far.
  package static let mostTrials = 5
  /// A file that leaves less than this share of the allowed bytes unused is as large as allowed.
  private static let unusedShare = 0.01

  /// The file with the most bits a weight that has at most so many bytes, to one percent.
  /// - Parameters:
  ///   - widths: bits that are tried, in ascending order.
  ///   - limit: in bytes.
  ///   - sizes: what is known of the bytes.
  ///   - make: the file with so many bits, and its bytes; throws `usage` if they are impossible.
  /// - Throws: `usage` with the smallest size if no file is as small; errors of `make`.
  package static func mostBits<File>(
    of widths: [Double], within limit: Int, sizes: RateCurve,
    _ make: (_ bits: Double) throws(QMError) -> (file: File, byteCount: Int)
  ) throws(QMError) -> File {
    var search = CrossingSearch(
      widths, limit: Double(limit) * (1 - unusedShare / 3), curve: sizes, isNoisy: false)
    var best: (file: File, bits: Double)?
    var smallest: (byteCount: Int, bits: Double)?
    var impossible: QMError?
    var trialCount = 0
    while best == nil || trialCount < mostTrials, let index = search.next(towardsAbove: false) {
      let bits = widths[index]
      let (file, byteCount): (File, Int)
      do throws(QMError) {
        (file, byteCount) = try make(bits)
      } catch {
        guard error.code == .usage else { throw error }
        impossible = error
        search.exclude(index)
        continue
      }
      trialCount += 1
      let isBelow = byteCount <= limit
      search.add(Double(byteCount), at: index, isBelow: isBelow)
      if smallest.map({ byteCount < $0.byteCount }) ?? true { smallest = (byteCount, bits) }
      if isBelow, best.map({ $0.bits < bits }) ?? true { best = (file, bits) }
      if isBelow, Double(limit - byteCount) <= unusedShare * Double(limit) { break }
    }
    if let best { return best.file }
    guard let smallest else { throw impossible ?? .usage("no number of bits is possible") }
    throw .usage(
      "no file of at most \(limit) bytes: the smallest has \(smallest.byteCount) bytes, with "
        + "\(smallest.bits) bits a weight")
  }
}

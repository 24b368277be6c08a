import QMFormat
import QMGraph
import QMNumPy
import QMReport
import QMTensor

/// Statistics of a float network on samples, read from files that
/// ``Converter/observe(_:samples:entries:to:progress:)`` wrote. The samples may be divided among several
/// files: a conversion from them gives the same bytes as a conversion from all samples.
///
/// ```swift
/// let observations = try Observations(contentsOf: ["part1.qstats", "part2.qstats"])
/// let conversion = try Converter(recipe: recipe).convert(graph, observations: observations)
/// ```
public struct Observations: Sendable {
  private let files: [StatisticsFile]
  /// Number of samples behind all files together.
  public let sampleCount: Int
  /// What the metadata of a converted file is to say of the samples, as
  /// ``Converter/observe(_:samples:entries:to:progress:)`` was told.
  public let entries: [Program.Metadata.Entry]
  /// The samples on which candidate programs are run.
  let kept: KeptSamples

  /// Opens files. Second moments are read only when they are needed.
  /// - Parameter paths: at least one, in any order.
  /// - Throws: `cannotOpen`; `malformed` or `unsupported`; `invalidInput` if the files are of
  ///   different networks, say different things of their samples, or share samples; each with the path
  ///   as context.
  public init(contentsOf paths: [String]) throws(QMError) {
    var files: [StatisticsFile] = []
    for path in paths {
      try within(.file(path)) { () throws(QMError) in
        let file = try StatisticsFile(contentsOf: path)
        if let first = files.first, first.header.network != file.header.network {
          throw QMError.invalidInput(
            "the file holds statistics of another network than '\(first.path.abbreviated)'",
            remedies: .observeAgain)
        }
        if let first = files.first, first.entries != file.entries {
          throw QMError.invalidInput(
            "the samples were read \(file.reading), those of '\(first.path.abbreviated)' "
              + "\(first.reading); observe all parts in the same way", remedies: .observeAgain)
        }
        if let same = files.first(where: { $0.isPart(of: file) || file.isPart(of: $0) }) {
          throw QMError.invalidInput(
            "the file shares samples with '\(same.path.abbreviated)'; give each sample once")
        }
        files.append(file)
      }
    }
    guard !files.isEmpty else { throw .usage("no statistics file; expected at least one") }
    self.files = files
    entries = files[0].entries
    var kept = KeptSamples()
    for file in files { kept.merge(file.kept) }
    self.kept = kept
    sampleCount = files.reduce(0) { $0 + $1.header.samples }
  }

  /// Second moments over all samples; nil if they were not observed.
  /// - Throws: `malformed` with the path as context.
  package func secondMoments(of place: OperandPlace) throws(QMError) -> SecondMoments? {
    var sum: SecondMoments?
    for file in files {
      guard let part = try file.secondMoments(of: place) else { continue }
      if sum?.merge(part) == nil { sum = part }
    }
    return sum
  }

  /// - Throws: `invalidInput` if the statistics are of another network.
  func require(of graph: Graph) throws(QMError) {
    guard files[0].header.network != StatisticsFile.network(of: graph) else { return }
    throw QMError.invalidInput(
      "the statistics are of another network, or were written by another version",
      remedies: .observeAgain
    ).within(.file(files[0].path))
  }
}

extension Observations {
  /// The statistics that the files hold: those of all samples but the files' kept ones.
  func statistics(of observations: Set<Observation>) -> Statistics {
    var statistics = Statistics()
    for file in files {
      var part = Statistics()
      for observation in observations {
        let place = observation.place
        switch observation.kind {
        case .range, .histogram: part.values[place] = file.statistics.values[place]
        case .means: part.means[place] = file.statistics.means[place]
        case .secondMoments: break
        }
      }
      statistics.merge(part)
    }
    return statistics
  }

  /// The kept samples of the files without some of the samples that all files together keep.
  func keptSamples(without reserved: KeptSamples) -> [KeptSamples.Sample] {
    var digests = Set(reserved.samples.map(\.digest))
    return files.flatMap(\.kept.samples).filter { digests.remove($0.digest) == nil }
  }
}

extension StatisticsFile {
  /// What the metadata of a converted file is to say of the samples.
  fileprivate var entries: [Program.Metadata.Entry] {
    (header.entries ?? []).map { .init($0.key, $0.value) }
  }

  /// The entries for people.
  fileprivate var reading: String {
    guard !entries.isEmpty else { return "as they are" }
    return "with "
      + entries.map { "\($0.key.abbreviated) \($0.value.abbreviated)" }
      .joined(separator: ", ")
  }
}

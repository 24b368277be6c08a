import Foundation
import QMFormat
import QMGraph
import QMNumPy
import QMTensor

/// Statistics of a float network on samples, read from files that
/// ``Converter/observe(_:samples:to:progress:)`` wrote. The samples may be divided among several
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
  /// The samples on which candidate programs are run.
  let kept: KeptSamples

  /// Opens files. Second moments are read only when they are needed.
  /// - Parameter paths: at least one, in any order.
  /// - Throws: `cannotOpen`; `malformed` or `unsupported`; `invalidInput` if the files are of
  ///   different networks or a file is given twice; each with the path as context.
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
        if let same = files.first(where: { $0.isOfSameSamples(as: file) }) {
          throw QMError.invalidInput(
            "the file holds the same samples as '\(same.path.abbreviated)'; give each part once")
        }
        files.append(file)
      }
    }
    guard !files.isEmpty else { throw .usage("no statistics file; expected at least one") }
    self.files = files
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

extension Observations: StatisticsSource {
  func statistics(
    of observations: Set<Observation>,
    take: (_ place: OperandPlace, _ moments: SecondMoments) throws(QMError) -> Void,
    progress: (_ done: Int, _ total: Int) -> Void
  ) throws(QMError) -> Statistics {
    var statistics = Statistics()
    for observation in observations where observation.kind != .secondMoments {
      let place = observation.place
      for file in files {
        if observation.kind == .means {
          guard let means = file.statistics.means[place] else { continue }
          if statistics.means[place]?.merge(means) == nil { statistics.means[place] = means }
        } else {
          guard let seen = file.statistics.values[place] else { continue }
          if statistics.values[place]?.merge(seen) == nil { statistics.values[place] = seen }
        }
      }
    }
    let places = observations.filter { $0.kind == .secondMoments }.map(\.place).sorted()
    for (number, place) in places.enumerated() {
      if let moments = try secondMoments(of: place) { try take(place, moments) }
      progress(number + 1, places.count)
    }
    return statistics
  }
}

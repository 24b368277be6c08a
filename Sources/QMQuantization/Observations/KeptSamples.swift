import QMFormat
import QMOperations
import QMTensor

/// A few samples that are kept in memory for the steps that run candidate programs: those whose
/// contents have the least digests.
///
/// The selection depends only on the contents of the samples, not on their names, their order, or
/// how they are divided into parts. The kept samples of parts merge to those of the whole.
package struct KeptSamples: SampleSource {
  /// A sample with its inputs.
  package struct Sample: Sendable {
    /// The name of the sample in its source.
    package let name: String
    /// SHA-256 of the inputs' names, types, shapes and elements.
    package let digest: [UInt8]
    /// Tensors by name of the input.
    package let inputs: [String: Tensor]
    /// Index in the source from which it was loaded; nil if it was read from a statistics file.
    var index: Int?

    var byteCount: Int { inputs.values.reduce(0) { $0 + $1.byteCount } }
  }

  /// Largest number of kept samples.
  package static let mostSamples = 24
  /// Bytes that all kept samples may take together; the first is kept whatever it takes.
  package static let mostBytes = 64 << 20

  /// In ascending order of their digests.
  package private(set) var samples: [Sample] = []
  /// The least digest of a sample that was not kept; nil if all were kept. Samples with larger
  /// digests are not kept either.
  package private(set) var cut: [UInt8]?
  /// Of all samples of the source, kept or not.
  package private(set) var source = SampleSetDigest()

  init() {}

  /// - Parameters:
  ///   - samples: kept samples, in any order.
  ///   - cut: their ``cut``.
  ///   - source: of all samples that they were chosen from.
  init(_ samples: [Sample], cut: [UInt8]?, source: SampleSetDigest = SampleSetDigest()) {
    self.cut = cut
    self.source = source
    for sample in samples { offer(sample) }
  }

  /// Loads all samples of a source and keeps those with the least digests.
  /// - Throws: errors of loading, with the sample as context.
  package init(of source: any SampleSource, threads: ThreadPool) throws(QMError) {
    let kept = Locked(KeptSamples())
    _ = try threads.map(source.count) { (index) throws(QMError) -> Bool in
      let name = source.name(of: index)
      let inputs = try within(.sample(name)) { () throws(QMError) in
        try source.inputs(of: index)
      }
      let sample = Sample(
        name: name, digest: KeptSamples.digest(of: inputs), inputs: inputs, index: index)
      kept.withLock { kept in
        kept.source.add(sample.digest)
        kept.offer(sample)
      }
      return true
    }
    self = kept.withLock { $0 }
  }

  package var count: Int { samples.count }
  package func name(of index: Int) -> String { samples[index].name }
  package func inputs(of index: Int) -> [String: Tensor] { samples[index].inputs }

  /// Adds a sample if its digest is below ``cut`` and no other has the same contents, and drops the
  /// samples that exceed a limit.
  mutating func offer(_ sample: Sample) {
    if let cut, !sample.digest.lexicographicallyPrecedes(cut) { return }
    guard !samples.contains(where: { $0.digest == sample.digest }) else { return }
    let place =
      samples.firstIndex { sample.digest.lexicographicallyPrecedes($0.digest) } ?? samples.count
    samples.insert(sample, at: place)
    var byteCount = 0
    for (number, sample) in samples.enumerated() {
      byteCount += sample.byteCount
      guard number == KeptSamples.mostSamples || number > 0 && byteCount > KeptSamples.mostBytes
      else { continue }
      cut = sample.digest
      samples.removeSubrange(number...)
      return
    }
  }

  /// The kept samples at some places.
  func samples(at places: Range<Int>) -> KeptSamples {
    KeptSamples(Array(samples[places]), cut: nil)
  }

  /// Selects the kept samples of both parts together.
  package mutating func merge(_ other: KeptSamples) {
    source.add(other.source.bytes)
    if let theirs = other.cut, cut.map({ theirs.lexicographicallyPrecedes($0) }) ?? true {
      cut = theirs
      samples.removeAll { !$0.digest.lexicographicallyPrecedes(theirs) }
    }
    for sample in other.samples { offer(sample) }
  }

  static func digest(of inputs: [String: Tensor]) -> [UInt8] {
    var digest = Digest()
    for (name, tensor) in inputs.sorted(by: { $0.key < $1.key }) {
      let header = "\(name)\0\(tensor.elementType) \(tensor.shape)\0"
      Array(header.utf8).withUnsafeBytes { digest.update($0) }
      withExtendedLifetime(tensor) { digest.update(UnsafeRawBufferPointer(tensor.bytes)) }
    }
    return digest.finished()
  }
}

/// Samples in memory.
struct LoadedSamples: SampleSource {
  private let samples: [KeptSamples.Sample]

  init(_ samples: [KeptSamples.Sample]) { self.samples = samples }

  var count: Int { samples.count }
  func name(of index: Int) -> String { samples[index].name }
  func inputs(of index: Int) -> [String: Tensor] { samples[index].inputs }
}

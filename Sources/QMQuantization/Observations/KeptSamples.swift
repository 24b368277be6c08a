import QMFormat
import QMOperations
import QMTensor

/// The few whole samples that serve every step that must run candidates: those with the least digests
/// of their contents.
///
/// Which samples these are depends on nothing but the set of samples: not on their names, their order,
/// or how they are divided among machines. The kept samples of parts merge to those of the whole.
package struct KeptSamples: SampleSource {
  package struct Sample: Sendable {
    package let name: String
    /// SHA-256 of the inputs' names, types, shapes and elements.
    package let digest: [UInt8]
    package let inputs: [String: Tensor]
    /// In the source that it was loaded from; nil where that is another.
    var index: Int?

    var byteCount: Int { inputs.values.reduce(0) { $0 + $1.byteCount } }
  }

  /// Samples that are kept at most.
  package static let mostSamples = 24
  /// Memory that they may take together, in bytes; one is kept whatever it takes.
  package static let mostBytes = 64 << 20

  /// The least digest first.
  package private(set) var samples: [Sample] = []
  /// The least digest of a sample that was not kept; nil where all were.
  package private(set) var cut: [UInt8]?

  init() {}

  /// - Parameters:
  ///   - samples: in any order.
  ///   - cut: as ``cut`` of the kept samples that they are.
  init(_ samples: [Sample], cut: [UInt8]?) {
    self.cut = cut
    for sample in samples { offer(sample) }
  }

  /// Loads all samples of a source, and keeps few.
  /// - Throws: what loading throws, with the sample as context.
  package init(of source: any SampleSource, threads: ThreadPool) throws(QMError) {
    let kept = Locked(KeptSamples())
    _ = try threads.map(source.count) { (index) throws(QMError) -> Bool in
      let name = source.name(of: index)
      let inputs = try within(.sample(name)) { () throws(QMError) in
        try source.inputs(of: index)
      }
      let sample = Sample(
        name: name, digest: KeptSamples.digest(of: inputs), inputs: inputs, index: index)
      kept.withLock { $0.offer(sample) }
      return true
    }
    self = kept.withLock { $0 }
  }

  package var count: Int { samples.count }
  package func name(of index: Int) -> String { samples[index].name }
  package func inputs(of index: Int) -> [String: Tensor] { samples[index].inputs }

  /// Keeps a sample, and drops what is too many.
  mutating func offer(_ sample: Sample) {
    if let cut, !sample.digest.lexicographicallyPrecedes(cut) { return }
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

  package mutating func merge(_ other: KeptSamples) {
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

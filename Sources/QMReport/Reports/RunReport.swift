/// The results of `qrun`.
///
/// In JSON the numbers of the benchmark are keys of the report itself, not of a nested object.
public struct RunReport: Report {
  /// Time and memory of a network.
  public struct Benchmark: Codable, Hashable, Sendable {
    /// Number of timed runs.
    public let runs: Int
    /// Median time of one run.
    public let medianMilliseconds: Double
    /// Shortest time of one run.
    public let minimumMilliseconds: Double
    /// Time to read, check and prepare the network.
    public let loadMilliseconds: Double
    /// Peak memory of the process, in bytes.
    public let peakBytes: Int
    /// Memory for values and scratch of one run, in bytes.
    public let arenaBytes: Int
    /// Memory of the weights, packed or not, in bytes.
    public let weightBytes: Int
    /// Peak memory of tensors, files, weights and arenas together, in bytes.
    public let bufferPeakBytes: Int

    /// A benchmark from its parts.
    public init(
      runs: Int, medianMilliseconds: Double, minimumMilliseconds: Double,
      loadMilliseconds: Double, peakBytes: Int, arenaBytes: Int, weightBytes: Int,
      bufferPeakBytes: Int
    ) {
      self.runs = runs
      self.medianMilliseconds = medianMilliseconds
      self.minimumMilliseconds = minimumMilliseconds
      self.loadMilliseconds = loadMilliseconds
      self.peakBytes = peakBytes
      self.arenaBytes = arenaBytes
      self.weightBytes = weightBytes
      self.bufferPeakBytes = bufferPeakBytes
    }

    enum CodingKeys: String, CodingKey {
      case runs
      case medianMilliseconds = "median_ms"
      case minimumMilliseconds = "min_ms"
      case loadMilliseconds = "load_ms"
      case peakBytes = "peak_bytes"
      case arenaBytes = "arena_bytes"
      case weightBytes = "weight_bytes"
      case bufferPeakBytes = "buffer_peak_bytes"
    }
  }

  /// The time that one node takes.
  public struct ProfileEntry: Codable, Hashable, Sendable {
    /// Name of the node.
    public let node: String
    /// Name of the operation: `Convolution`.
    public let operation: String
    /// Name of its ``ExecutionMode``: `integer`, `table`, `move` or `float`.
    public let mode: String
    /// Name of the kernel that ran the node.
    public let kernel: String
    /// Time in one run.
    public let milliseconds: Double
    /// 10⁹ operations per second, counting two per multiply-add; nil for nodes without
    /// multiply-adds.
    public let gigaoperations: Double?
    /// Fraction of the time of all nodes, 0 to 1.
    public let share: Double

    enum CodingKeys: String, CodingKey {
      case node, operation, mode, kernel, share
      case milliseconds = "ms"
      case gigaoperations = "gops"
    }
  }

  /// Path of the network.
  public let model: String
  /// Number of threads per run.
  public let threads: Int
  /// Name of the kernel set.
  public let kernels: String
  /// Number of samples that were run; nil if none were.
  public var samples: Int?
  /// Folder of the results; nil if none were written.
  public var output: String?
  /// SHA-256 over the bytes of all outputs, in hexadecimal; nil if not requested.
  public var digest: String?
  /// Fraction of the items whose highest score is at their label, 0 to 1; nil without labels.
  public var accuracy: Double?
  /// Number of items with a label; nil without labels.
  public var items: Int?
  /// Time and memory; nil if not requested.
  public var benchmark: Benchmark?
  /// The time of each node, in the order of the network; nil if not requested.
  public var profile: [ProfileEntry]?

  /// A report without results yet.
  public init(model: String, threads: Int, kernels: String) {
    self.model = model
    self.threads = threads
    self.kernels = kernels
  }

  private enum CodingKeys: CodingKey {
    case model, threads, kernels, samples, output, digest, accuracy, items, profile
  }

  /// Reads what ``encode(to:)`` wrote.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    model = try container.decode(String.self, forKey: .model)
    threads = try container.decode(Int.self, forKey: .threads)
    kernels = try container.decode(String.self, forKey: .kernels)
    samples = try container.decodeIfPresent(Int.self, forKey: .samples)
    output = try container.decodeIfPresent(String.self, forKey: .output)
    digest = try container.decodeIfPresent(String.self, forKey: .digest)
    accuracy = try container.decodeIfPresent(Double.self, forKey: .accuracy)
    items = try container.decodeIfPresent(Int.self, forKey: .items)
    profile = try container.decodeIfPresent([ProfileEntry].self, forKey: .profile)
    let hasBenchmark = try decoder.container(keyedBy: Benchmark.CodingKeys.self).contains(.runs)
    benchmark = hasBenchmark ? try Benchmark(from: decoder) : nil
  }

  /// Writes the numbers of the benchmark as keys of the report itself.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(model, forKey: .model)
    try container.encode(threads, forKey: .threads)
    try container.encode(kernels, forKey: .kernels)
    try container.encodeIfPresent(samples, forKey: .samples)
    try container.encodeIfPresent(output, forKey: .output)
    try container.encodeIfPresent(digest, forKey: .digest)
    try container.encodeIfPresent(accuracy, forKey: .accuracy)
    try container.encodeIfPresent(items, forKey: .items)
    try container.encodeIfPresent(profile, forKey: .profile)
    try benchmark?.encode(to: encoder)
  }
}

extension RunReport.ProfileEntry {
  /// An entry for each node of a profile, in the order of the network.
  public static func all(of profile: Profile) -> [RunReport.ProfileEntry] {
    let entries = profile.entries
    let total = entries.reduce(0) { $0 + $1.seconds }
    return entries.map {
      let seconds = $0.seconds / Double(profile.runCount)
      return RunReport.ProfileEntry(
        node: $0.node, operation: $0.operation, mode: $0.mode.name, kernel: $0.kernel,
        milliseconds: 1e3 * seconds,
        gigaoperations: $0.multiplyAdds > 0 && seconds > 0
          ? 2e-9 * Double($0.multiplyAdds) / seconds : nil,
        share: total > 0 ? $0.seconds / total : 0)
    }
  }
}

/// The results of `qrun` on a checkpoint, whose arrays it writes to an archive.
public struct UnpackReport: Report {
  /// Path of the checkpoint.
  public let model: String
  /// Path of the archive that was written.
  public let output: String
  /// Number of arrays written.
  public let arrays: Int
  /// Size of all arrays together, in bytes, without the archive's headers.
  public let bytes: Int

  /// A report from its parts.
  public init(model: String, output: String, arrays: Int, bytes: Int) {
    self.model = model
    self.output = output
    self.arrays = arrays
    self.bytes = bytes
  }
}

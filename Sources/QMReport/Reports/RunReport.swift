/// What `qrun` did.
///
/// In JSON the figures of a benchmark stand beside the others and not in an object of their own.
public struct RunReport: Report {
  /// Time and memory of a network.
  public struct Benchmark: Codable, Hashable, Sendable {
    /// Runs that were timed.
    public let runs: Int
    /// Of one run.
    public let medianMilliseconds: Double
    /// Of one run.
    public let minimumMilliseconds: Double
    /// Reading, checking and preparing the network.
    public let loadMilliseconds: Double
    /// Most memory that the process ever held, in bytes.
    public let peakBytes: Int
    /// Values and scratch of one run, in bytes.
    public let arenaBytes: Int
    /// Weights, rearranged or as given, in bytes.
    public let weightBytes: Int
    /// Most bytes that tensors, files, weights and arenas took together.
    public let bufferPeakBytes: Int

    /// A benchmark with all its figures.
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

  /// Where the time of a run goes.
  public struct ProfileEntry: Codable, Hashable, Sendable {
    /// Name of the node.
    public let node: String
    /// Name of the operation: `Convolution`.
    public let operation: String
    /// Name of its ``ExecutionMode``: `integer`, `table`, `move` or `float`.
    public let mode: String
    /// Name of the kernel that ran it.
    public let kernel: String
    /// Of one run.
    public let milliseconds: Double
    /// 10⁹ operations a second, two for each multiply-add; of products only.
    public let gigaoperations: Double?
    /// Of the time of all nodes, 0 to 1.
    public let share: Double

    enum CodingKeys: String, CodingKey {
      case node, operation, mode, kernel, share
      case milliseconds = "ms"
      case gigaoperations = "gops"
    }
  }

  /// Path of the network.
  public let model: String
  /// Threads of one run.
  public let threads: Int
  /// Name of the kernel set.
  public let kernels: String
  /// Samples that were run; nil where none were.
  public var samples: Int?
  /// Folder of the results; nil where none were written.
  public var output: String?
  /// SHA-256 over the bytes of all outputs, in hexadecimal.
  public var digest: String?
  /// Share of the items whose highest score is at their label, 0 to 1.
  public var accuracy: Double?
  /// Items with a label.
  public var items: Int?
  /// Nil where nothing was timed.
  public var benchmark: Benchmark?
  /// Node by node, in the order of the network; nil where that was not asked for.
  public var profile: [ProfileEntry]?

  /// A report of nothing that was run yet.
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

  /// Writes the figures of the benchmark beside the others.
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
  /// All nodes that a profile saw, in the order of the network.
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

/// What `qrun` wrote of a file of weights.
public struct UnpackReport: Report {
  /// Path of the file of weights.
  public let model: String
  /// Path of the archive that was written.
  public let output: String
  /// Arrays that were written.
  public let arrays: Int
  /// Of all arrays together, without the archive's headers.
  public let bytes: Int

  /// A report with all its figures.
  public init(model: String, output: String, arrays: Int, bytes: Int) {
    self.model = model
    self.output = output
    self.arrays = arrays
    self.bytes = bytes
  }
}

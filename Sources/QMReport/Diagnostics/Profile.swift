import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Where the time of a run goes: per node and kernel, over any number of runs.
public struct Profile {
  /// What is known of one node.
  public struct Entry: Sendable {
    /// Name of the node.
    public let node: String
    /// Name of the operation: `Convolution`.
    public let operation: String
    public let mode: ExecutionMode
    /// Name of the kernel that ran it.
    public let kernel: String
    /// All runs together.
    public let seconds: Double
    /// Of one run; 0 for what is no product.
    public let multiplyAdds: Int
  }

  private let program: Program
  /// Multiply-adds of each node, counted in the first run.
  private var work: [Int: Int] = [:]
  private var times: [Int: (kernel: String, duration: Duration)] = [:]
  /// Runs that were timed.
  public private(set) var runCount = 0

  /// - Parameter program: that the sessions run.
  public init(_ program: Program) { self.program = program }

  /// Times one run.
  /// - Throws: what the run throws.
  public mutating func run(_ session: Session, _ inputs: [String: Tensor]) throws(QMError) {
    if runCount == 0 { work = try Work.multiplyAddsByNode(of: program, session, inputs) }
    let clock = ContinuousClock()
    var times = times
    var current: (node: Int, kernel: String)?
    var start = clock.now
    _ = try session.run(
      inputs,
      timing: { step in
        let now = clock.now
        if let current {
          times[current.node, default: (current.kernel, .zero)].duration += now - start
        }
        (current, start) = (step, now)
      })
    self.times = times
    runCount += 1
  }

  /// In the order of the program.
  public var entries: [Entry] {
    times.sorted { $0.key < $1.key }.map { node, time in
      Entry(
        node: program.nodes[node].name, operation: program.nodes[node].operation.name,
        mode: program.note(of: program.nodes[node]).mode, kernel: time.kernel,
        seconds: time.duration.seconds, multiplyAdds: work[node] ?? 0)
    }
  }
}

extension Duration {
  /// The duration in seconds.
  public var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}

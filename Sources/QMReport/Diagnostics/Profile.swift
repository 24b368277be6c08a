import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Measures the time of each node, over any number of runs.
public struct Profile {
  /// The results for one node.
  public struct Entry: Sendable {
    /// Name of the node.
    public let node: String
    /// Name of the operation: `Convolution`.
    public let operation: String
    /// How the node runs.
    public let mode: ExecutionMode
    /// Name of the kernel that ran the node.
    public let kernel: String
    /// Time in all runs together.
    public let seconds: Double
    /// Number of multiply-adds of one run; 0 for nodes without.
    public let multiplyAdds: Int
  }

  private let program: Program
  /// Multiply-adds of each node, counted in the first run.
  private var work: [Int: Int] = [:]
  private var times: [Int: (kernel: String, duration: Duration)] = [:]
  /// Number of timed runs.
  public private(set) var runCount = 0

  /// A profile of a program, without runs yet.
  public init(_ program: Program) { self.program = program }

  /// Times one run.
  /// - Parameter session: a session of the program's model.
  /// - Throws: the error of the run.
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

  /// The results of all nodes, in the order of the program.
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

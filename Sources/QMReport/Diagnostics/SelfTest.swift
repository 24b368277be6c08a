import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Checks that a program gives the same bits on every kernel set.
public struct SelfTest {
  private let sessions: [(kernels: KernelSet, session: Session)]
  /// The kernel sets that are compared, the reference loops first.
  public var kernelSets: [KernelSet] { sessions.map(\.kernels) }
  /// Number of samples on which all kernel sets gave the same bits.
  public private(set) var inputCount = 0

  /// Prepares the program for each kernel set.
  /// - Parameters:
  ///   - kernelSets: the kernel sets to compare with the reference loops.
  ///   - threadCount: number of threads per run; the reference loops run on one.
  ///   - runByteLimit: maximum memory of one run, in bytes.
  /// - Throws: the error of preparing the program.
  public init(
    _ program: Program, kernelSets: [KernelSet] = KernelSet.available, threadCount: Int = 1,
    runByteLimit: Int = .max
  ) throws(QMError) {
    var sessions: [(KernelSet, Session)] = []
    for kernels in [.reference] + kernelSets.filter({ $0 != .reference }) {
      let options = Model.Options(
        threadCount: kernels == .reference ? 1 : threadCount, kernels: kernels,
        runByteLimit: runByteLimit)
      sessions.append((kernels, Session(try Model(program, options: options))))
    }
    self.sessions = sessions
  }

  /// Runs one sample on every kernel set.
  /// - Throws: `outOfTolerance` with the first output that differs in a bit; the error of a run.
  public mutating func check(_ inputs: [String: Tensor]) throws(QMError) {
    let expected = try sessions[0].session.run(inputs)
    for (kernels, session) in sessions.dropFirst() {
      let found = try session.run(inputs)
      for (name, tensor) in expected.sorted(by: { $0.key < $1.key }) {
        guard let other = found[name], other.isIdentical(to: tensor) else {
          throw QMError(
            .outOfTolerance,
            "kernel set '\(kernels.rawValue)' gives other bits than the reference loops",
            context: [.value(name)])
        }
      }
    }
    inputCount += 1
  }
}

import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Whether every way to compute a program gives the same bits.
public struct SelfTest {
  private let sessions: [(kernels: KernelSet, session: Session)]
  /// Ways that were compared, the reference loops first.
  public var kernelSets: [KernelSet] { sessions.map(\.kernels) }
  /// Samples on which all ways gave the same bits.
  public private(set) var inputCount = 0

  /// Prepares the program for each way to compute it.
  /// - Parameters:
  ///   - kernelSets: compared with the reference loops.
  ///   - runByteLimit: memory that the values of a run may take, in bytes.
  /// - Throws: what preparing the program throws.
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

  /// Runs one sample every way.
  /// - Throws: `outOfTolerance` with the first output that differs in a bit; what a run throws.
  public mutating func check(_ inputs: [String: Tensor]) throws(QMError) {
    let expected = try sessions[0].session.run(inputs)
    for (kernels, session) in sessions.dropFirst() {
      let found = try session.run(inputs)
      for (name, tensor) in expected.sorted(by: { $0.key < $1.key }) {
        guard let other = found[name], other.isIdentical(to: tensor) else {
          throw QMError(
            .outOfTolerance,
            "the kernels '\(kernels.rawValue)' and the reference loops give different bits",
            context: [.value(name)])
        }
      }
    }
    inputCount += 1
  }
}

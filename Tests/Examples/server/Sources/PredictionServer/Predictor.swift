import Hummingbird
import QMNumPy
import QMRuntime
import QMTensor
import Synchronization

/// Runs a model for requests, within limits.
final class Predictor: Sendable {
  struct Limits {
    /// Number of runs at the same time.
    var concurrency: Int
    /// Number of requests that may wait for a run.
    var waiting: Int
    /// Time from the arrival of a request to its answer.
    var time: Duration
    /// Size of a request, in bytes.
    var requestBytes: Int
  }

  let model: Model
  let limits: Limits
  private let pool: SessionPool
  private let admitted = Atomic(0)

  init(_ model: Model, _ limits: Limits) {
    (self.model, self.limits) = (model, limits)
    pool = SessionPool(model, limit: limits.concurrency)
  }

  /// - Parameter body: an `.npz` of the inputs by their names.
  /// - Returns: an `.npz` of the outputs by their names.
  /// - Throws: `HTTPError`: 400 for inputs that do not fit, 413 if the run needs too much memory, 503
  ///   if too many wait, 504 if the time is over. `CancellationError` if the task is cancelled.
  func predict(_ body: ByteBuffer) async throws -> ByteBuffer {
    let count = admitted.add(1, ordering: .relaxed).newValue
    defer { admitted.subtract(1, ordering: .relaxed) }
    guard count <= limits.concurrency + limits.waiting else {
      throw HTTPError(
        .serviceUnavailable, headers: [.retryAfter: "1"], message: "too many requests wait")
    }
    return try await withThrowingTaskGroup(of: ByteBuffer.self) { group in
      group.addTask { [limits] in
        try await Task.sleep(for: limits.time)
        throw HTTPError(.gatewayTimeout, message: "no answer within \(limits.time)")
      }
      group.addTask { try await self.outputs(for: body) }
      // Whichever is first cancels the other; a cancelled run ends within milliseconds.
      defer { group.cancelAll() }
      for try await answer in group { return answer }
      throw CancellationError()
    }
  }

  private func outputs(for body: ByteBuffer) async throws -> ByteBuffer {
    do throws(QMError) {
      let archive = try NPZArchive(bytes: .copying(body.readableBytesView))
      var inputs: [String: Tensor] = [:]
      for name in archive.names { inputs[name] = try archive.tensor(named: name) }
      let outputs = try await pool.run(inputs)
      let ordered = outputs.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
      return ByteBuffer(bytes: try NPZArchive.encode(ordered))
    } catch {
      switch error.code {
      case .cancelled: throw CancellationError()
      case .outOfMemory: throw HTTPError(.contentTooLarge, message: error.description)
      default: throw HTTPError(.badRequest, message: error.description)
      }
    }
  }
}

import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Synchronization
import Testing

@Suite struct CancellationTests {
  /// Three convolutions of float32 `[1, 8, 8, 32]`, one behind the other.
  private static func program() throws -> Program {
    var generator = SeededGenerator(seed: 7)
    var builder = ProgramBuilder()
    var last = builder.input("x", .int8, [1, 24, 24, 16], ProgramBuilder.grid)
    let scale = builder.constant(try Tensor([1], [0.002] as [Float]))
    for _ in 0..<3 {
      last = try builder.convolution(
        last, builder.weights([16, 5, 5, 16], &generator), scale: scale)
    }
    return builder.program(["y": last])
  }

  private static func image() throws -> [String: Tensor] {
    var generator = SeededGenerator(seed: 8)
    return ["x": try generator.tensor([1, 24, 24, 16], in: Int8(-128)...127)]
  }

  @Test(arguments: [1, 2]) func aRunEndsBeforeItsNextStepAndTheNextRunIsWhole(threads: Int) throws {
    let session = Session(try Model(Self.program(), options: .init(threadCount: threads)))
    let expected = try session.run(Self.image())["y"]!
    for step in 0..<3 {
      var begun = 0
      #expect(throws: QMError.cancelled()) {
        try session.run(
          Self.image(),
          timing: { now in
            guard now != nil else { return }
            if begun == step { session.cancel() }
            begun += 1
          })
      }
      #expect(begun == step + 1)
      #expect(try session.run(Self.image())["y"]!.isIdentical(to: expected))
    }
    try session.prepare([[1, 24, 24, 16]])
    session.cancel()
    let image = try #require(Self.image()["x"])
    session.withInput(0) { (bytes) in
      // The bytes of a tensor are valid only while it lives.
      withExtendedLifetime(image) { bytes.copyMemory(from: image.bytes) }
    }
    try session.runInPlace()
    withExtendedLifetime(expected) {
      session.withOutput(0) { #expect($0.elementsEqual(expected.bytes)) }
    }
  }

  @Test(arguments: [1, 3]) func aLoopSkipsTheChunksThatHaveNotBegun(threads: Int) {
    let pool = ThreadPool(threadCount: threads)
    let count = Atomic(0)
    let (first, second) = (pool.runState.begin(), pool.runState.begin())
    #expect(first && !second)
    pool.run(chunks: 10_000) { (_, _) in
      if count.add(1, ordering: .relaxed).newValue == 5 { pool.runState.cancel() }
    }
    #expect(count.load(ordering: .relaxed) < 5 + threads)
    pool.run(chunks: 100) { (_, _) in count.add(1, ordering: .relaxed) }
    #expect(count.load(ordering: .relaxed) < 5 + threads)
    pool.runState.end()
    pool.runState.cancel()
    count.store(0, ordering: .relaxed)
    pool.run(chunks: 100) { (_, _) in count.add(1, ordering: .relaxed) }
    #expect(count.load(ordering: .relaxed) == 100)
  }

  @Test func aSecondRunAtTheSameTimeIsAnError() throws {
    let session = Session(try Model(Self.program()))
    var errors: [QMError] = []
    _ = try session.run(
      Self.image(),
      timing: { _ in
        do throws(QMError) { try session.prepare([[1, 24, 24, 16]]) } catch { errors.append(error) }
      })
    #expect(errors.count == 4)
    #expect(errors.allSatisfy { $0 == .usage("") })
  }

  // MARK: Pools

  @Test func aPoolServesMoreTasksThanSessions() async throws {
    let model = try Model(Self.program())
    let expected = try model.run(Self.image())["y"]!
    let pool = SessionPool(model, limit: 2)
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<20 {
        group.addTask { try await pool.run(Self.image())["y"]!.isIdentical(to: expected) }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }

  @Test func aCancelledTaskGetsNoOutputsAndHoldsNoSession() async throws {
    let pool = SessionPool(try Model(Self.program()))
    for _ in 0..<20 {
      let tasks = try (0..<4).map { _ in
        let image = try Self.image()
        return Task { () throws(QMError) in try await pool.run(image) }
      }
      for task in tasks { task.cancel() }
      for task in tasks {
        // A task that had ended before keeps its outputs.
        if case .failure(let error) = await task.result {
          #expect(error as? QMError == .cancelled())
        }
      }
    }
    let image = try Self.image()
    let waiting = Task { () throws(QMError) in
      withUnsafeCurrentTask { $0?.cancel() }
      return try await pool.run(image)
    }
    await #expect(throws: QMError.cancelled()) { try await waiting.value }
    #expect(try await pool.run(image).count == 1)
  }
}

import QMFormat
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Probes in files that another writer made (`fixtures/generate/make_qm.py`), whose float outputs are
/// what the network gives.
@Suite struct SelfTestTests {
  private static let path = Fixtures.path("qm/accept/probes.qm")

  private static func bytes(_ path: String) throws -> [UInt8] {
    let buffer = try Buffer.reading(path: path)
    return withExtendedLifetime(buffer) { Array(buffer.bytes) }
  }

  @Test func aFileAndItsBytesGiveTheSame() throws {
    let test = try Model(contentsOf: Self.path).selfTest()
    #expect(test.agreements == [true, true, true] && test.areInputsMade)
    #expect(test.outputs.map(\.name) == ["y"])
    // One of them is NaN on both sides.
    #expect(test.worstSignalToNoise == .infinity)
    let bytes = try Self.bytes(Self.path)
    #expect(try Model(bytes: bytes).selfTest(bytes: bytes) == test)
    #expect(try Model(contentsOf: Self.path).selfTest(bytes: bytes) == test)
    let truths = Fixtures.path("qm/accept/probes_of_truth_values.qm")
    #expect(try Model(contentsOf: truths).selfTest().passed)
  }

  @Test func anotherDigestAndOtherFloatOutputsAreFound() throws {
    let file = try QMFile(path: Self.path)
    let (program, probes) = (try Program(file), try #require(try file.probes()))
    let first = probes.probes[0]
    let other = try Tensor([2, 3], [1, 2, 3, 4, 5, 7] as [Float])
    let changed = Program.Probes(
      [
        .init(inputs: first.inputs, floatOutputs: [other], outputs: first.inputs),
        .init(inputs: first.inputs, floatOutputs: first.floatOutputs, outputs: [other]),
        .init(
          inputs: first.inputs, floatOutputs: try [Tensor([1, 3], [1, 2, 3] as [Float])],
          outputs: first.inputs),
        // The same bytes in another shape.
        .init(
          inputs: first.inputs, floatOutputs: first.floatOutputs,
          outputs: try [first.inputs[0].reshaped([3, 2])]),
      ], areInputsMade: false)
    let bytes = try program.encoded(probes: changed)
    let test = try Model(bytes: bytes).selfTest(bytes: bytes)
    #expect(test.agreements == [true, false, true, false] && !test.passed)
    // 10 · log10((1 + 4 + 9 + 16 + 25 + 49) / 1) for the first, another shape for the third.
    #expect(test.worstSignalToNoise == -.infinity)
    let alone = Program.Probes([changed.probes[0]], areInputsMade: false)
    let second = try program.encoded(probes: alone)
    let found = try Model(bytes: second).selfTest(bytes: second)
    #expect(abs(found.medianSignalToNoise - 20.17033) < 1e-4)
    #expect(found.worstSignalToNoise == found.medianSignalToNoise)
  }

  @Test func whatCannotBeTestedIsAnError() throws {
    let bytes = try Self.bytes(Self.path)
    func code(_ body: () throws -> Void) -> QMError.Code? {
      do {
        try body()
        return nil
      } catch {
        #expect(!"\(error)".contains("\n"))
        return (error as? QMError)?.code
      }
    }
    #expect(code { _ = try Model(bytes: bytes).selfTest() } == .usage)
    #expect(code { _ = try Model(Program(contentsOf: Self.path)).selfTest() } == .usage)
    let identity = Fixtures.path("qm/accept/identity.qm")
    #expect(
      code { _ = try Model(bytes: bytes).selfTest(bytes: Self.bytes(identity)) } == .invalidInput)
    do {
      _ = try Model(contentsOf: identity).selfTest()
      Issue.record("tested")
    } catch {
      #expect(error.code == .usage && error.remedies == [.convertWithProbes])
      #expect(error.description.contains("identity.qm"))
    }
    // The network is well formed, and runs; only its probes are not.
    let damaged = Fixtures.path("qm/reject/probes_cut_off.qm")
    let model = try Model(contentsOf: damaged)
    let x = try Tensor([1, 3], [1, 2, 3] as [Float])
    #expect(try model.run(["x": x])["y"]?.isIdentical(to: x) == true)
    #expect(code { _ = try model.selfTest() } == .malformed)
  }

  @Test func aFileThatWasReplacedIsNotTested() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out.qm"
      try AtomicFile.write(Self.bytes(Self.path), to: path)
      let model = try Model(contentsOf: path)
      #expect(try model.selfTest().passed)
      try AtomicFile.write(
        Self.bytes(Fixtures.path("qm/accept/identity.qm")), to: path)
      #expect(throws: QMError.invalidInput("")) { try model.selfTest() }
    }
  }
}

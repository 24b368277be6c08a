import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Memory that is known before a model is opened and before it runs.
@Suite struct MemoryNeededTests {
  @Test(arguments: FixtureModel.all, [3, 8]) func itIsKnownBeforehand(
    fixture: FixtureModel, bits: Int
  ) throws {
    let bytes = try fixture.conversion(bits: bits).program.encoded()
    let inputs = try fixture.noisyInputs()
    for kernels in [KernelSet.best, .portable, .reference] {
      for memory in Model.Memory.allCases {
        let options = Model.Options(kernels: kernels, memory: memory)
        let needed = try Model.memoryNeeded(bytes: bytes, options: options)
        let model = try Model(bytes: bytes, options: options)
        #expect(needed >= model.weightByteCount, "\(kernels) \(memory)")
        #expect(needed <= model.weightByteCount * 3 / 2, "\(kernels) \(memory)")

        let session = Session(model)
        let shapes = model.inputs.map { inputs[$0.name]!.shape }
        let arena = try session.memoryNeeded(for: shapes)
        #expect(session.arenaByteCount == 0)
        if kernels != .reference {
          _ = try session.run(inputs)
          #expect(session.arenaByteCount == arena)
        }
      }
    }
  }
}

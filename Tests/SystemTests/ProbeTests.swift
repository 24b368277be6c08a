import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Probes of converted networks, from the conversion to the device.
@Suite struct ProbeTests {
  private struct Probed {
    let prepared: PreparedConversion
    let program: Program
    let probes: Program.Probes
    let file: [UInt8]
  }

  private static func probed(
    _ fixture: FixtureModel, hasSamples: Bool = true, count: Int = 4, threads: Int = 1
  ) throws -> Probed {
    var recipe = Recipe(weights: .codes(4), activations: hasSamples ? .int8 : nil)
    recipe.effort = .fast
    let prepared = try Converter(recipe: recipe, options: Model.Options(threadCount: threads))
      .prepare(fixture.graph(), samples: hasSamples ? fixture.samples("calib", limit: 16) : nil)
    let program = try prepared.convert().program
    let probes = try prepared.probeSamples(count).probes(of: program)
    let file = try program.encoded(probes: probes, threads: ThreadPool(threadCount: threads))
    return Probed(prepared: prepared, program: program, probes: probes, file: file)
  }

  @Test(arguments: FixtureModel.all, [true, false]) func aFileHoldsItsProbes(
    fixture: FixtureModel, hasSamples: Bool
  ) throws {
    let probed = try Self.probed(fixture, hasSamples: hasSamples)
    let file = try QMFile(Buffer.copying(probed.file))
    #expect(try file.probes() == probed.probes)
    #expect(try Program(file) == probed.program)
    try file.container.checkDigest()
    #expect(probed.probes.areInputsMade == !hasSamples)
    // A quarter of up to 16 samples.
    #expect((3...4).contains(probed.probes.probes.count))
    #expect(try Self.probed(fixture, hasSamples: hasSamples, threads: 2).file == probed.file)
  }

  @Test func probesAreSamplesThatJudge() throws {
    let probed = try Self.probed(FixtureModel(name: "digits_mlp"))
    let judging = try #require(probed.prepared.judgingSamples)
    let float = try Model(probed.prepared.floatProgram)
    for (index, probe) in probed.probes.probes.enumerated() {
      let inputs = try judging.inputs(of: index)
      #expect(try #require(inputs.values.first).isIdentical(to: probe.inputs[0]))
      let expected = try #require(float.run(inputs).values.first)
      #expect(expected.isIdentical(to: probe.floatOutputs[0]))
    }
    // 16 samples, of which a quarter judges.
    #expect(try probed.prepared.probeSamples(64).count == 4)
    for count in [0, 65] {
      #expect(throws: QMError.usage("")) { try probed.prepared.probeSamples(count) }
    }
  }

  @Test func everyMachineAgrees() throws {
    let probed = try Self.probed(FixtureModel(name: "digits_cnn"))
    for kernels in [.reference] + KernelSet.available {
      let options = Model.Options(threadCount: 2, kernels: kernels)
      let test = try Model(bytes: probed.file, options: options).selfTest(bytes: probed.file)
      #expect(test.agreements == [true, true, true, true] && test.passed)
      #expect(test.outputs.count == 1 && !test.areInputsMade)
      #expect(test.medianSignalToNoise > 10 && test.medianSignalToNoise.isFinite)
      #expect(test.worstSignalToNoise <= test.medianSignalToNoise)
    }
  }

  /// The SQNR is that of ``Comparison`` over the same pairs.
  @Test func theErrorIsThatOfTheFloatNetwork() throws {
    let probed = try Self.probed(FixtureModel(name: "digits_mlp"))
    let model = try Model(probed.program)
    var comparison = Comparison()
    let name = model.outputs[0].name
    var ratios: [Double] = []
    for probe in probed.probes.probes {
      let found = try model.run([model.inputs[0].name: probe.inputs[0]])[name]!
      try comparison.add(reference: probe.floatOutputs[0], measured: found)
      ratios.append(Comparison.decibels(1 / comparison.normalizedErrors.last!))
    }
    let test = try Model(bytes: probed.file).selfTest(bytes: probed.file)
    #expect(test.medianSignalToNoise == comparison.medianSignalToNoise)
    #expect(abs(test.worstSignalToNoise - ratios.min()!) < 0.5)
  }

  @Test func oneCodeMoreIsFound() throws {
    var probed = try Self.probed(FixtureModel(name: "digits_mlp"))
    var program = probed.program
    // The bias of the last product: what is added to it reaches every output.
    let place = try #require(program.constants.lastIndex { $0.tensor.elementType == .int32 })
    var codes = program.constants[place].tensor.elements(as: Int32.self)
    codes[0] += 1
    program.constants[place] = try .init(Tensor([codes.count], codes))
    probed = Probed(
      prepared: probed.prepared, program: program, probes: probed.probes,
      file: try program.encoded(probes: probed.probes))
    let test = try Model(bytes: probed.file).selfTest(bytes: probed.file)
    #expect(test.agreements == [false, false, false, false] && !test.passed)
  }

  /// A network without weights gets no made samples, and still made probes.
  @Test func aNetworkWithNothingToRoundHasMadeProbes() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("n"), .fixed(5)])))
    let y = try graph.append(.unary(Unary(.tanh)), name: "tanh", [x])[0]
    try graph.addOutput(name: "y", y)
    let prepared = try Converter(recipe: Recipe(weights: .float32)).prepare(graph)
    let program = try prepared.convert().program
    let probes = try prepared.probeSamples(64).probes(of: program)
    #expect(probes.areInputsMade && probes.probes.count == 64)
    let file = try program.encoded(probes: probes)
    let test = try Model(bytes: file).selfTest(bytes: file)
    #expect(test.passed && test.medianSignalToNoise == .infinity)
  }

  @Test func probesThatAFileDoesNotHoldAreRefusedBeforeTheConversion() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.fixed(1 << 19)])))
    let y = try graph.append(.unary(Unary(.relu)), name: "relu", [x])[0]
    try graph.addOutput(name: "y", y)
    let prepared = try Converter(recipe: Recipe(weights: .float32)).prepare(graph)
    #expect(try prepared.probeSamples(3).count == 3)
    do {
      _ = try prepared.probeSamples(4)
      Issue.record("accepted")
    } catch {
      #expect(error.code == .usage && error.message.contains("at most 3"), "\(error)")
    }
  }

  @Test func anAppThatOnlyRunsDoesNotPay() throws {
    let probed = try Self.probed(FixtureModel(name: "digits_mlp"))
    let bare = try probed.program.encoded()
    #expect(probed.file.count > bare.count)
    #expect(try Model.memoryNeeded(bytes: probed.file) == Model.memoryNeeded(bytes: bare))
    #expect(
      try Model(bytes: probed.file).weightByteCount == Model(bytes: bare).weightByteCount)
  }
}

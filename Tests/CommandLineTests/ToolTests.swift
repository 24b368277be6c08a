import Foundation
import QMOperations
import Testing

@Suite("The tools, from one end to the other")
struct ToolTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  @Test(arguments: [8, 4, 3, 2], ["int8", "dynamic", "float"])
  func convertsVerifiesAndRuns(bits: Int, activations: String) throws {
    let file = folder.path("out.qm")
    let converted = try Tool.qconvert(
      Fixture.model, file, "--bits", "\(bits)", "--samples", Fixture.calibration,
      "--limit-samples", "7", "--activations", activations, "--min-sqnr", "0", "--json", "--quiet")
    #expect(converted.status == 0, "\(converted.errors)")
    #expect(converted.errors.isEmpty)
    let report = try converted.json
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    #expect(outputs.count == 1)
    let stored = try #require(outputs[0]["sqnr_db"] as? Double)
    #expect(stored > 5)
    #expect(try folder.names == ["out.qm"])

    let alone = try Tool.qverify(file)
    #expect(alone.status == 0, "\(alone.errors)")
    #expect(alone.output.contains("the same bits"))
    #expect(alone.output.contains("accuracy was not measured"))

    // On the samples that it was measured with a file is as good as it says. So few samples do everything.
    let again = try Tool.qverify(
      file, Fixture.calibration, "--limit-samples", "7", "--reference", Fixture.model, "--json")
    #expect(again.status == 0, "\(again.errors)")
    let found = try #require(try again.json["outputs"] as? [[String: Any]])
    #expect(abs(try #require(found[0]["sqnr_db"] as? Double) - stored) < 0.01)

    let verified = try Tool.qverify(
      file, Fixture.evaluation, "--reference", Fixture.model, "--per-value", "--json",
      "--tolerance", "4")
    #expect(verified.status == 0, "\(verified.errors)")
    let values = try #require(try verified.json["values"] as? [[String: Any]])
    #expect(values.count >= 2)

    let ran = try Tool.qrun(
      file, Fixture.evaluation, "--output", folder.path("results"), "--labels", Fixture.labels,
      "--json")
    #expect(ran.status == 0, "\(ran.errors)")
    let accuracy = try #require(try ran.json["accuracy"] as? Double)
    // The float network gets 0.976.
    #expect(accuracy > (bits >= 4 ? 0.96 : bits == 3 ? 0.9 : 0.5))
  }

  @Test func resultsLieInTheLayoutOfSamples() throws {
    let results = folder.path("results")
    let ran = try Tool.qrun(Fixture.model, Fixture.evaluation, "--output", results)
    #expect(ran.status == 0, "\(ran.errors)")
    let names = try FileManager.default.contentsOfDirectory(atPath: results).sorted()
    let samples = try FileManager.default.contentsOfDirectory(atPath: Fixture.evaluation).sorted()
    #expect(names == samples.map { $0.replacingOccurrences(of: ".npy", with: ".y.npy") })
  }

  @Test func outputsBesideSamplesAreTheTruth() throws {
    let (file, samples) = (folder.path("out.qm"), folder.path("samples"))
    #expect(try Tool.qconvert(Fixture.model, file, "--bits", "32").status == 0)
    try FileManager.default.copyItem(atPath: Fixture.evaluation, toPath: samples)
    #expect(try Tool.qrun(Fixture.model, samples, "--output", samples).status == 0)
    let verified = try Tool.qverify(file, samples, "--json")
    #expect(verified.status == 0, "\(verified.errors)")
    let report = try verified.json
    #expect(report["truth"] as? String == "outputs beside the samples")
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    // A float program is the network itself.
    #expect(outputs[0]["sqnr_db"] as? String == "Infinity")
  }

  @Test func aConversionIsTheSameWhereverAndHoweverOften() throws {
    let copy = folder.path("another name.onnx")
    try FileManager.default.copyItem(atPath: Fixture.model, toPath: copy)
    for (name, source, threads) in [
      ("a.qm", Fixture.model, "1"), ("b.qm", copy, "2"), ("c.qm", copy, "3"),
    ] {
      let converted = try Tool.qconvert(
        source, folder.path(name), "--bits", "4", "--samples", Fixture.calibration, "--threads",
        threads, "--min-sqnr", "0")
      #expect(converted.status == 0, "\(converted.errors)")
    }
    let first = try Data(contentsOf: URL(fileURLWithPath: folder.path("a.qm")))
    for name in ["b.qm", "c.qm"] {
      #expect(try Data(contentsOf: URL(fileURLWithPath: folder.path(name))) == first)
    }
  }

  @Test func everyKernelSetAndThreadCountGivesOneDigest() throws {
    let file = folder.path("out.qm")
    #expect(
      try Tool.qconvert(Fixture.model, file, "--bits", "8", "--samples", Fixture.calibration)
        .status == 0)
    for model in [file, Fixture.model] {
      var digests: Set<String> = []
      for kernels in KernelSet.allCases.map(\.rawValue) {
        for threads in ["1", "2", "3"] {
          let ran = try Tool.qrun(
            model, Fixture.evaluation, "--digest", "--kernels", kernels, "--threads", threads)
          // 64: this machine does not have the set.
          guard ran.status != 64 else { continue }
          #expect(ran.status == 0, "\(ran.errors)")
          digests.insert(ran.output)
        }
      }
      let compact = try Tool.qrun(model, Fixture.evaluation, "--digest", "--memory", "compact")
      #expect(compact.status == 0, "\(compact.errors)")
      digests.insert(compact.output)
      #expect(digests.count == 1)
      #expect(digests.first?.count == 65)
    }
  }

  @Test func aVariableForcesTheKernels() throws {
    for (kernels, status) in [("portable", Int32(0)), ("reference", 0), ("", 0), ("none", 64)] {
      let ran = try Tool.qrun.run(
        [Fixture.model, "--benchmark", "1", "--json"], environment: ["QM_KERNELS": kernels])
      #expect(ran.status == status, "\(kernels): \(ran.errors)")
      if status == 0, kernels != "" { #expect(try ran.json["kernels"] as? String == kernels) }
    }
    let asked = try Tool.qrun.run(
      [Fixture.model, "--benchmark", "1", "--json", "--kernels", "portable"],
      environment: ["QM_KERNELS": "reference"])
    #expect(try asked.json["kernels"] as? String == "portable")
  }

  @Test func inspectsAFile() throws {
    let file = folder.path("out.qm")
    #expect(
      try Tool.qconvert(Fixture.model, file, "--bits", "4", "--samples", Fixture.calibration)
        .status == 0)
    let inspected = try Tool.qinspect(file, "--json")
    #expect(inspected.status == 0, "\(inspected.errors)")
    let report = try inspected.json
    #expect(report["integer_multiply_add_share"] as? Double == 1)
    #expect(report["quantized_weight_share"] as? Double == 1)
    #expect((report["bits_per_weight_in_codes"] as? Double ?? 9) <= 8)
    #expect((report["bits_per_weight_in_file"] as? Double ?? 9) <= 4)
    // 64 · 128 + 128 · 64 + 64 · 10 products.
    #expect(report["multiply_adds"] as? Int == 17_024)
    let inputs = try #require(report["inputs"] as? [[String: Any]])
    #expect(inputs[0]["name"] as? String == "x")
    #expect(inputs[0]["shape"] as? [String] == ["n", "64"])
    let text = try Tool.qinspect(file)
    #expect(text.output.contains("integer"))
    let entries = try #require(report["entries"] as? [[String: String]])
    let digest = try #require(entries.first { $0["key"] == "samples digest" }?["value"])
    #expect(digest.count == 64 && text.output.contains(digest))
    // Other names of the same samples do not change it, other samples do.
    let renamed = folder.path("renamed")
    try FileManager.default.createDirectory(atPath: renamed, withIntermediateDirectories: true)
    let names = try FileManager.default.contentsOfDirectory(atPath: Fixture.calibration).sorted()
    for (index, name) in names.enumerated() {
      try FileManager.default.copyItem(
        atPath: "\(Fixture.calibration)/\(name)", toPath: "\(renamed)/\(names.count - index).npy")
    }
    for (limit, isSame) in [(names.count, true), (names.count - 1, false)] {
      let other = folder.path("other.qm")
      let converted = try Tool.qconvert(
        Fixture.model, other, "--samples", renamed, "--limit-samples", "\(limit)")
      #expect(converted.status == 0, "\(converted.errors)")
      #expect(try Tool.qinspect(other).output.contains(digest) == isSame)
    }
  }

  @Test func inspectsANetwork() throws {
    let report = try Tool.qinspect(Fixture.model, "--json").json
    #expect(report["opset"] as? Int == 13)
    let inputs = try #require(report["inputs"] as? [[String: Any]])
    #expect(inputs.map { $0["name"] as? String } == ["x"])
    let operators = try #require(report["operators"] as? [[String: Any]])
    let products = operators.first { $0["name"] as? String == "Gemm" }
    #expect(products?["count"] as? Int == 3)
    #expect(products?["supported"] as? Bool == true)
    let weights = try #require(report["weights"] as? [[String: Any]])
    #expect(weights.count == 6)
    let text = try Tool.qinspect(Fixture.model)
    #expect(text.output.contains("Gemm"))
    // Also a network that cannot be read.
    let other = Fixture.root.appendingPathComponent(
      "fixtures/onnx/reject/unknown_operator/model.onnx"
    ).path
    let unread = try Tool.qinspect(other)
    #expect(unread.status == 0, "\(unread.errors)")
    #expect(unread.output.contains("no"))
  }

  @Test func runsANetworkWithOtherInputs() throws {
    let cut = try Tool.qrun(
      Fixture.model, "--input", "x=1,64", "--benchmark", "1", "--json")
    #expect(cut.status == 0, "\(cut.errors)")
    let unknown = try Tool.qrun(Fixture.model, "--set", "nothing=1", "--benchmark", "1")
    #expect(unknown.status == 64)
    let file = folder.path("out.qm")
    #expect(try Tool.qconvert(Fixture.model, file).status == 0)
    let refused = try Tool.qrun(file, "--set", "x=1", "--benchmark", "1")
    #expect(refused.status == 64)
    #expect(refused.errors.contains("qconvert"))
  }

  @Test func timesAndProfiles() throws {
    let ran = try Tool.qrun(Fixture.model, "--benchmark", "20", "--profile", "--json")
    #expect(ran.status == 0, "\(ran.errors)")
    let report = try ran.json
    let median = try #require(report["median_ms"] as? Double)
    let least = try #require(report["min_ms"] as? Double)
    #expect(least > 0 && least <= median)
    #expect((report["peak_bytes"] as? Int ?? 0) > 1 << 20)
    let profile = try #require(report["profile"] as? [[String: Any]])
    let share = profile.reduce(0) { $0 + ($1["share"] as? Double ?? 0) }
    #expect(abs(share - 1) < 1e-6)
  }

  @Test func aPrintedRecipeMakesTheSameFile() throws {
    let options = ["--bits", "4", "--ranges", "mse", "--min-sqnr", "0", "--effort", "fast"]
    let printed = try Tool.qconvert.run(
      [Fixture.model, folder.path("none.qm"), "--print-recipe"] + options)
    #expect(printed.status == 0, "\(printed.errors)")
    #expect(try folder.names.isEmpty)
    try Data(printed.output.utf8).write(to: URL(fileURLWithPath: folder.path("recipe.json")))
    let samples = ["--samples", Fixture.calibration]
    let given = try Tool.qconvert.run([Fixture.model, folder.path("given.qm")] + samples + options)
    let read = try Tool.qconvert.run(
      [Fixture.model, folder.path("read.qm"), "--recipe", folder.path("recipe.json")] + samples)
    #expect(given.status == 0 && read.status == 0, "\(given.errors)\(read.errors)")
    let files = try ["given.qm", "read.qm"].map {
      try Data(contentsOf: URL(fileURLWithPath: folder.path($0)))
    }
    #expect(files[0] == files[1])
  }

  @Test func cutsANetwork() throws {
    let file = folder.path("out.qm")
    let converted = try Tool.qconvert(
      Fixture.model, file, "--samples", Fixture.calibration, "--output", "/3/Relu_output_0")
    #expect(converted.status == 0, "\(converted.errors)")
    let report = try Tool.qinspect(file, "--json").json
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    #expect(outputs.map { $0["name"] as? String } == ["/3/Relu_output_0"])
    let verified = try Tool.qverify(
      file, Fixture.evaluation, "--reference", Fixture.model, "--tolerance", "20")
    #expect(verified.status == 0, "\(verified.errors)")
  }

  @Test func remarksSayWhatIsComputedOtherwise() throws {
    func path(_ name: String) -> String { "\(Fixture.root.path)/fixtures/onnx/\(name)/model.onnx" }
    for (name, type) in [("double_network", "float64"), ("half_network", "float16")] {
      let converted = try Tool.qconvert(path(name), folder.path("out.qm"))
      #expect(converted.status == 0, "\(converted.errors)")
      #expect(
        converted.errors == "qconvert: values of type \(type) are computed in float32\n")
    }
    let converted = try Tool.qconvert(path("quantized_uint8"), folder.path("out.qm"))
    #expect(converted.status == 0, "\(converted.errors)")
    #expect(converted.errors.contains("the network is quantized already: its codes are kept"))
    #expect(converted.output.contains("float activations"))
  }

  @Test func explainsEveryNode() throws {
    let converted = try Tool.qconvert(
      Fixture.model, folder.path("out.qm"), "--bits", "4", "--explain")
    #expect(converted.status == 0)
    #expect(
      converted.output.contains("weights per tensor, int8 input quantized dynamically"))
  }

  /// The figures of made inputs are no promise about samples.
  @Test func aConversionWithoutSamplesIsMeasuredOnMadeInputs() throws {
    let file = folder.path("out.qm")
    let converted = try Tool.qconvert(Fixture.model, file, "--bits", "4", "--json", "--quiet")
    #expect(converted.status == 0, "\(converted.errors)")
    let report = try converted.json
    #expect(report["samples"] as? Int == 0)
    #expect(report["made_inputs"] as? Int == 24)
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    #expect(try #require(outputs.first?["sqnr_db"] as? Double) > 20)
    let shown = try Tool.qinspect(file)
    #expect(shown.output.contains("made inputs: 24"))
    #expect(!shown.output.contains("samples: "))
    let verified = try Tool.qverify(file, Fixture.evaluation, "--reference", Fixture.model)
    #expect(verified.status == 0, "\(verified.errors)")
    #expect(verified.output.contains("the file states figures of made inputs"))
    let ran = try Tool.qrun(file, Fixture.evaluation, "--labels", Fixture.labels, "--json")
    #expect(try #require(try ran.json["accuracy"] as? Double) > 0.96)
  }

  @Test func halfPrecisionHalvesAFile() throws {
    func convert(_ bits: String, _ file: String) throws -> Tool.Result {
      try Tool.qconvert(
        Fixture.model, file, "--bits", bits, "--samples", Fixture.calibration, "--json", "--quiet")
    }
    let (half, float) = (folder.path("16.qm"), folder.path("32.qm"))
    #expect(try convert("32", float).status == 0)
    let converted = try convert("16", half)
    #expect(converted.status == 0, "\(converted.errors)")
    let outputs = try #require(try converted.json["outputs"] as? [[String: Any]])
    let figure = try #require(outputs.first?["sqnr_db"] as? Double)
    #expect(figure > 55 && figure < 100)
    func size(_ file: String) throws -> Int {
      try #require(
        try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int)
    }
    #expect(try Double(size(half)) < 0.6 * Double(size(float)))
    let verified = try Tool.qverify(half, Fixture.evaluation, "--reference", Fixture.model)
    #expect(verified.status == 0, "\(verified.errors)")
    // Recipes and files name it.
    #expect(try Tool.qinspect(half).output.contains("bits: 16"))
    let printed = try Tool.qconvert(Fixture.model, "--bits", "16", "--print-recipe")
    #expect(printed.output.contains("\"bits\""))
    #expect(try convert("12", folder.path("12.qm")).status == 64)
  }

  /// The bits that gains of single tensors ask for leave 31.1 dB, a looser bound of the errors 33.1.
  @Test func theBestOfSeveralDivisionsOfTheBitsIsTaken() throws {
    let converted = try Tool.qconvert(
      Fixture.model, folder.path("out.qm"), "--bits", "3", "--samples", Fixture.calibration,
      "--json", "--quiet")
    let outputs = try #require(try converted.json["outputs"] as? [[String: Any]])
    #expect(try #require(outputs.first?["sqnr_db"] as? Double) > 32)
  }
}

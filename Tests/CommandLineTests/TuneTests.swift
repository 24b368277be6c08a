import Foundation
import QMFormat
import QMNumPy
import QMTensor
import Testing

@Suite("qtune") struct TuneTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  private func bytes(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: folder.path(name)))
  }

  private func tune(_ name: String, _ options: [String]) throws -> Tool.Result {
    try Tool.qtune.run(
      [Fixture.model, folder.path(name), "--samples", Fixture.calibration]
        + (options.contains("--bits") ? [] : ["--bits", "2"]) + options)
  }

  /// The calibration samples and labels for them in one archive.
  private func labelled() throws -> String {
    let samples = try SampleFolder(path: Fixture.calibration, inputs: [SampleInput("x")])
    var elements: [Float] = []
    for index in 0..<samples.count {
      elements += try #require(try samples.inputs(of: index).values.first).elements(as: Float.self)
    }
    let path = folder.path("train.npz")
    try NPZArchive.write(
      [
        ("x", try Tensor([samples.count, elements.count / samples.count], elements)),
        ("kind", try Tensor([samples.count], (0..<samples.count).map { Int64($0 % 10) })),
      ], to: path)
    return path
  }

  @Test func trainingLowersTheLossAndKeepsTheSize() throws {
    let tuned = try tune("out.qm", ["--steps", "150", "--rate", "0.005", "--json", "--quiet"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let report = try tuned.json
    let (before, after) = (
      try #require(report["loss_before"] as? Double), try #require(report["loss_after"] as? Double)
    )
    #expect(after < 0.7 * before)
    let size = try bytes("out.qm").count
    let sizeBefore = try #require(report["bytes_before"] as? Int)
    #expect(Double(size) <= 1.01 * Double(sizeBefore))
    let verified = try Tool.qverify(
      folder.path("out.qm"), Fixture.calibration, "--reference", Fixture.model)
    #expect(verified.status == 0, "\(verified.errors)")
    #expect(try folder.names == ["out.qm"])
  }

  @Test func theBytesDoNotDependOnThreads() throws {
    for threads in ["1", "3"] {
      let tuned = try tune(
        "\(threads).qm", ["--steps", "60", "--threads", threads, "--clip", "agc"])
      #expect(tuned.status == 0, "\(tuned.errors)")
    }
    #expect(try bytes("1.qm") == bytes("3.qm"))
  }

  @Test(arguments: [
    [],
    [
      "--segment", "0.5", "--segment-decay", "0.9", "--gradient-bits", "8", "--sparsity", "0.6",
      "--accumulate", "2", "--batch", "8",
    ],
    [
      "--optimizer", "sgd", "--momentum", "0.8", "--clip", "value", "--clip-range", "-0.5:0.6",
      "--weight-decay", "0.001", "--absolute-decay", "0.0001", "--warm-up", "0.2", "--segment", "0",
    ],
  ]) func anInterruptedRunGoesOnToTheSameBytes(_ others: [String]) throws {
    let options = ["--steps", "3000", "--rate", "0.005", "--min-sqnr", "0", "--quiet"] + others
    #expect(try tune("whole.qm", options).status == 0)
    let log = folder.path("steps.jsonl")
    let running = try Tool.qtune.start(
      [Fixture.model, folder.path("out.qm"), "--samples", Fixture.calibration, "--bits", "2"]
        + options + ["--log", log])
    while running.isRunning, ((try? Data(contentsOf: URL(fileURLWithPath: log)))?.count ?? 0) < 9000
    {
      usleep(2000)
    }
    running.interrupt()
    running.waitUntilExit()
    try #require(running.terminationStatus == 130, "the run ended before it was interrupted")
    #expect(try folder.names.contains("out.qm.checkpoint"))
    #expect(try !folder.names.contains("out.qm"))
    let other = try tune("out.qm", options.map { $0 == "3000" ? "2999" : $0 } + ["--resume"])
    #expect(other.status == 64)
    #expect(other.errors.contains("the checkpoint is of a run with other options"))
    // The options of training are the same, the parameters are as many.
    let otherWidth = try tune("out.qm", options + ["--resume", "--bits", "2.5"])
    #expect(otherWidth.status == 64)
    #expect(otherWidth.errors.contains("of another network or samples"))
    #expect(try folder.names.contains("out.qm.checkpoint"))
    let resumed = try tune("out.qm", options + ["--resume"])
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try bytes("out.qm") == bytes("whole.qm"))
    #expect(try !folder.names.contains("out.qm.checkpoint"))
  }

  @Test func floatTrainingGivesConstantsForTheConverter() throws {
    let archive = try labelled()
    let trained = try Tool.qtune(
      Fixture.model, folder.path("tuned.npz"), "--float", "--samples", archive, "--labels", "kind",
      "--steps", "100", "--start", "he", "--seed", "3")
    #expect(trained.status == 0, "\(trained.errors)")
    let converted = try Tool.qconvert(
      Fixture.model, folder.path("out.qm"), "--weights", folder.path("tuned.npz"), "--samples",
      archive)
    #expect(converted.status == 0, "\(converted.errors)")
    #expect(!converted.errors.contains("no constant"))
  }

  @Test func recomputationGivesTheSameFile() throws {
    for (name, options) in [("kept.qm", []), ("again.qm", ["--recompute"])] {
      let tuned = try tune(name, ["--steps", "20", "--rate", "0.005"] + options)
      #expect(tuned.status == 0, "\(tuned.errors)")
    }
    #expect(try bytes("kept.qm") == bytes("again.qm"))
  }

  /// The codes of each weight in a file.
  private func codes(_ name: String) throws -> [[Int8]] {
    let program = try Program(contentsOf: folder.path(name))
    return try program.constants.compactMap { constant in
      guard case .weights = constant.quantization else { return nil }
      return try constant.tensor.converted(to: .int8).elements(as: Int8.self)
    }
  }

  /// Pruned weights have the code 0 in the file, which gets smaller.
  @Test(arguments: ["lsq", "affine"]) func prunedWeightsAreZeroInTheFile(_ form: String) throws {
    let tuned = try tune(
      "out.qm",
      [
        "--steps", "200", "--rate", "0.005", "--sparsity", "0.85", "--quantizer", form,
        "--min-sqnr",
        "0", "--quiet", "--json",
      ])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let codes = try codes("out.qm")
    #expect(codes.count == 3)
    for codes in codes {
      let share = Double(codes.count { $0 == 0 }) / Double(codes.count)
      #expect(share >= 0.845, "\(share)")
    }
    let report = try tuned.json
    let zeroShare = try #require(report["zero_share"] as? Double)
    let all = codes.joined()
    #expect(abs(zeroShare - Double(all.count { $0 == 0 }) / Double(all.count)) < 1e-3)
    let before = try #require(report["bytes_before"] as? Int)
    if form == "lsq" { #expect(Double(try bytes("out.qm").count) < 0.9 * Double(before)) }
  }

  @Test func epochsAreStepsOverTheSamples() throws {
    let tuned = try tune("out.qm", ["--epochs", "7", "--batch", "5", "--json", "--quiet"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let report = try tuned.json
    let samples = try #require(report["samples"] as? Int)
    #expect(report["steps"] as? Int == (7 * samples + 4) / 5)
  }

  /// With labels for classes the share that is right, without them the share that decides as the float
  /// network.
  @Test func theMetricOfTheTaskIsReported() throws {
    let archive = try labelled()
    for (options, name) in [(["--labels", "kind"], "accuracy"), ([], "agreement")] {
      let log = folder.path("steps.jsonl")
      let tuned = try Tool.qtune.run(
        [
          Fixture.model, folder.path("out.qm"), "--samples", archive, "--bits", "2", "--steps",
          "40",
          "--rate", "0.001", "--hold-out", "30%", "--json", "--log", log,
        ] + options)
      #expect(tuned.status == 0, "\(tuned.errors)")
      #expect(tuned.errors.contains(", \(name) "))
      let report = try tuned.json
      for key in ["metric_before", "metric_after"] {
        let metric = try #require(report[key] as? [String: Any])
        #expect(metric["name"] as? String == name && metric["better"] as? String == "higher")
        #expect(metric["output"] as? String == "y")
        let value = try #require(metric["value"] as? Double)
        // The labels are arbitrary, so that the network is rarely right.
        #expect(name == "accuracy" ? value < 0.5 : value > 0.8)
      }
      let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
      #expect(lines.filter { $0.contains("\"name\":\"\(name)\"") }.count == 20)
    }
  }

  /// A step's report tells how many layers did not wait.
  @Test func layersWaitForTheirSums() throws {
    let log = folder.path("steps.jsonl")
    let tuned = try tune(
      "out.qm", ["--steps", "40", "--rate", "0.001", "--segment", "0.3", "--log", log, "--quiet"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let shares = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").map {
      let line = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
      return try #require(line?["updatedShare"] as? Double)
    }
    #expect(shares.count == 40)
    #expect(shares.contains { $0 < 0.5 } && shares.contains { $0 > 0 })
  }

  /// The bits of the codes of each weight in a file, and what they take, as `qinspect` reports them.
  private func weights(_ name: String) throws -> [String: (bits: Int, stored: Double)] {
    let inspected = try Tool.qinspect(folder.path(name), "--json")
    var weights: [String: (bits: Int, stored: Double)] = [:]
    for constant in try #require(try inspected.json["constants"] as? [[String: Any]]) {
      let name = try #require(constant["name"] as? String)
      guard name.hasPrefix("weights of ") else { continue }
      weights[String(name.dropFirst(11))] = (
        try #require(constant["bits"] as? Int), try #require(constant["stored_bits"] as? Double)
      )
    }
    return weights
  }

  /// The options of the conversion hold for what is trained: training leaves a stated width, and
  /// float32 weights.
  @Test(arguments: ["auto", "fixed"])
  func layersHaveWidthsOfTheirOwn(_ grid: String) throws {
    let tuned = try tune(
      "out.qm",
      [
        "--bits", "3", "--grid", grid, "--bits-for", "/2/Gemm=2", "--keep-float", "/4/Gemm",
        "--steps", "100", "--rate", "0.0015", "--min-sqnr", "0", "--json", "--quiet",
      ])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let found = try weights("out.qm")
    #expect(found["/2/Gemm"]?.bits == 2)
    #expect(try #require(found["/0/Gemm"]).bits >= 3)
    #expect(found["/4/Gemm"]?.bits == 32)
    let report = try tuned.json
    #expect(
      try #require(report["loss_after"] as? Double) < #require(report["loss_before"] as? Double))
  }

  @Test func weightsAloneAreTrained() throws {
    let tuned = try tune(
      "out.qm", ["--activations", "float", "--steps", "60", "--rate", "0.005", "--json", "--quiet"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let report = try tuned.json
    #expect(
      try #require(report["loss_after"] as? Double) < #require(report["loss_before"] as? Double))
    let inspected = try Tool.qinspect(folder.path("out.qm"))
    #expect(!inspected.output.contains("Quantize "), "\(inspected.output)")
  }

  @Test func constantsFromAnArchiveAreConvertedAndTrained() throws {
    let archive = folder.path("weights.npz")
    try NPZArchive.write(
      [("4.bias", try Tensor([10], [Float](repeating: 5, count: 10)))], to: archive)
    for name in ["own", "other"] {
      let tuned = try tune(
        name + ".qm",
        ["--steps", "2", "--rate", "0.001", "--quiet"]
          + (name == "other" ? ["--weights", archive] : []))
      #expect(tuned.status == 0, "\(tuned.errors)")
    }
    #expect(try bytes("own.qm") != bytes("other.qm"))
  }

  @Test func labelsAloneTrainToo() throws {
    let trained = try Tool.qtune(
      Fixture.model, folder.path("out.qm"), "--samples", try labelled(), "--labels", "kind",
      "--teacher", "0", "--steps", "100", "--bits", "3", "--json", "--min-sqnr", "0")
    #expect(trained.status == 0, "\(trained.errors)")
    let report = try trained.json
    let (before, after) = (
      try #require(report["loss_before"] as? Double), try #require(report["loss_after"] as? Double)
    )
    #expect(after < before)
  }

  @Test(arguments: [
    (["--bits", "16"], 64, "--bits 16.0: expected 1.5 to 8"),
    (["--rate", "0"], 64, "--rate 0.0: expected above 0"),
    (["--float"], 64, "--float needs --labels"),
    (["--labels", "kind"], 65, "calib: sample '0000': no labels 'kind'"),
    (["--epochs", "0"], 64, "--epochs 0: expected 1 to 10000000"),
    (["--epochs", "2", "--steps", "3"], 64, "--epochs replaces --steps"),
    (["--epochs", "10000000", "--batch", "1"], 64, "steps; at most 10000000 are taken"),
    (["--hold-out", "0"], 64, "--hold-out 0: expected above 0, at most 0.5"),
    (["--hold-out", "60%"], 64, "--hold-out 60%: expected above 0, at most 0.5"),
    (["--teacher", "half"], 64, "half"),
    (["--momentum", "0.5"], 64, "--momentum needs --optimizer sgd"),
    (["--momentum", "1", "--optimizer", "sgd"], 64, "--momentum 1.0: expected 0 to below 1"),
    (["--weight-decay", "nan"], 64, "--weight-decay nan: expected 0 or more"),
    (["--absolute-decay", "inf"], 64, "--absolute-decay inf: expected 0 or more"),
    (["--warm-up", "0.6"], 64, "--warm-up 0.6: expected 0 to 0.5"),
    (["--clip-range", "-1:1"], 64, "--clip-range needs --clip value"),
    (["--clip", "value", "--clip-range", "1:2"], 64, "--clip-range"),
    (["--gradient-bits", "7"], 64, "--gradient-bits"),
    (["--no-gradient-scaling"], 64, "--no-gradient-scaling needs --gradient-bits 8"),
    (["--segment", "-1"], 64, "--segment"),
    (["--segment-decay", "0.5"], 64, "--segment-decay needs --segment"),
    (["--segment", "1", "--segment-decay", "2"], 64, "--segment-decay 2.0: expected 0 to 1"),
    (["--sparsity", "1"], 64, "--sparsity 1: expected 0 to 0.99"),
    (["--sparsity", "0.5", "--steps", "5"], 64, "5 steps; pruning takes at least 10"),
    (["--start", "he"], 64, "--start he needs --float"),
    (["--batch-normalization", "trained"], 64, "--batch-normalization needs --float"),
    (["--through-time", "1000001"], 64, "--through-time 1000001: expected 0 to 1000000"),
    (["--limit-samples", "1"], 65, "training needs at least 2"),
    (["--resume"], 66, "out.qm.checkpoint"),
    (["--bits-for", "none=2"], 64, "no node matches the pattern 'none'"),
    (["--clip-norm", "0"], 64, "--clip-norm 0.0: expected a number above 0"),
  ])
  func badInputIsOneLine(_ options: [String], _ status: Int, _ message: String) throws {
    let refused = try Tool.qtune.run(
      [Fixture.model, folder.path("out.qm"), "--samples", Fixture.calibration, "--quiet"] + options)
    #expect(Int(refused.status) == status)
    let lines = refused.errors.split(separator: "\n")
    #expect(lines.last?.contains(message) ?? false, "\(refused.errors)")
    #expect(lines.last?.hasPrefix("qtune: ") ?? false)
    #expect(try !folder.names.contains("out.qm"))
  }

  @Test func floatTrainingTakesNoOptionsOfTheConversion() throws {
    let refused = try Tool.qtune(
      Fixture.model, folder.path("out.npz"), "--float", "--samples", Fixture.calibration,
      "--labels",
      "kind", "--grid", "free")
    #expect(refused.status == 64)
    #expect(refused.errors.contains("--float does not convert"))
  }

  /// A checkpoint is an archive of numbers, and may hold any.
  @Test(arguments: ["numbers", "best", "first", "state"])
  func aDamagedCheckpointIsRefused(_ name: String) throws {
    let path = folder.path("out.qm.checkpoint")
    var arrays: [(String, Tensor)] = []
    for array in ["state", "numbers", "best", "first", "second"] where array != name {
      arrays.append((array, try Tensor([3], [Float](repeating: .nan, count: 3))))
    }
    arrays.append((name, try Tensor([2], [UInt8]([123, 125]))))
    try NPZArchive.write(arrays, to: path)
    let refused = try tune("out.qm", ["--resume", "--quiet"])
    #expect(refused.status == 65, "\(refused.errors)")
    #expect(refused.errors.split(separator: "\n").count == 1)
    #expect(refused.errors.contains("out.qm.checkpoint"))
    #expect(try folder.names == ["out.qm.checkpoint"])
  }

  /// Infinite weights must not be rounded.
  @Test func anUnclippedStepBeyondAllBoundsIsTakenBack() throws {
    let tuned = try tune(
      "out.qm",
      ["--steps", "30", "--optimizer", "sgd", "--clip", "none", "--rate", "100", "--json"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let report = try tuned.json
    #expect(
      try #require(report["loss_after"] as? Double) <= #require(report["loss_before"] as? Double))
  }

  /// The conversion stays when training diverges four times.
  @Test func aRateThatIsTooHighIsToldAndLosesNothing() throws {
    let tuned = try tune("out.qm", ["--steps", "40", "--rate", "60", "--json"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    #expect(tuned.errors.contains("training diverged at step"))
    let report = try tuned.json
    #expect((report["divergences"] as? [String])?.isEmpty == false)
    let (before, after) = (
      try #require(report["loss_before"] as? Double), try #require(report["loss_after"] as? Double)
    )
    #expect(after <= before)
  }

  /// Training starts with the very codes of the conversion, also where they need 8 bits.
  @Test(arguments: ["fixed", "free", "auto"])
  func eightBitsStartAsTheConverter(_ grid: String) throws {
    let tuned = try Tool.qtune(
      Fixture.model, folder.path("out.qm"), "--samples", Fixture.calibration, "--bits", "8",
      "--grid", grid, "--steps", "20", "--rate", "0.001", "--json", "--quiet")
    #expect(tuned.status == 0, "\(tuned.errors)")
    let report = try tuned.json
    #expect(try #require(report["loss_before"] as? Double) < 1e-3)
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    let before = try #require(report["outputs_before"] as? [[String: Any]])
    for (after, before) in zip(outputs, before) {
      let (now, then) = (
        try #require(after["sqnr_db"] as? Double), try #require(before["sqnr_db"] as? Double)
      )
      #expect(now > then - 3)
    }
  }

  @Test func greedyClippingTrains() throws {
    let tuned = try tune("out.qm", ["--steps", "60", "--clip", "greedy", "--json", "--quiet"])
    #expect(tuned.status == 0, "\(tuned.errors)")
    let report = try tuned.json
    #expect(
      try #require(report["loss_after"] as? Double) <= #require(report["loss_before"] as? Double))
  }
}

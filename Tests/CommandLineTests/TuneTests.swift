import Foundation
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

  @Test func anInterruptedRunGoesOnToTheSameBytes() throws {
    let options = ["--steps", "3000", "--rate", "0.005", "--quiet"]
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
    let other = try tune("out.qm", ["--steps", "2999", "--rate", "0.005", "--resume"])
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
    (["--labels", "kind"], 65, "no labels 'kind'"),
    (["--start", "he"], 64, "--start he needs --float"),
    (["--batch-normalization", "trained"], 64, "--batch-normalization needs --float"),
    (["--through-time", "1000001"], 64, "--through-time 1000001: expected 0 to 1000000"),
    (["--limit-samples", "1"], 65, "training needs at least 2"),
    (["--resume"], 66, "out.qm.checkpoint"),
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

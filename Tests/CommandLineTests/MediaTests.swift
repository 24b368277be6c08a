import Foundation
import Testing

/// Samples as the world has them: pictures, `.safetensors`.
@Suite("Samples of the world") struct MediaTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  private func fixture(_ path: String) -> String {
    Fixture.root.appendingPathComponent("fixtures/" + path).path
  }

  /// Takes `[1, 3, 8, 7]`.
  private var convolution: String { fixture("onnx/conv_same_upper/model.onnx") }

  /// A folder with a copy of each picture.
  private func pictures(_ names: [String]) throws -> String {
    let path = folder.path("pictures")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    for name in names {
      try FileManager.default.copyItem(
        atPath: fixture("pictures/" + name),
        toPath: path + "/" + (name as NSString).lastPathComponent)
    }
    return path
  }

  #if Media
    private static let names = [
      "rgb.png", "gray.png", "palette.png", "rgb16.png", "interlaced.png", "subsampled.jpg",
      "progressive.jpeg", "wide.JPG", "orientation_6.jpg",
    ]

    /// What a conversion was told of its pictures, the file's users need not say again.
    @Test func preprocessingIsKeptInTheFile() throws {
      let (pictures, file) = (try pictures(MediaTests.names), folder.path("o.qm"))
      let said = [
        "--resize", "fit", "--mean", "0.5,0.25,0.5", "--std", "0.25", "--channels", "bgr",
      ]
      let made = try Tool.qconvert.run(
        [convolution, file, "--samples", pictures, "--min-sqnr", "0"] + said)
      try #require(made.status == 0, "\(made.errors)")
      #expect(made.errors.contains("pictures are read with size 7x8, resize fit"), "\(made.errors)")
      let entries = try #require(
        try Tool.qinspect(file, "--json").json["entries"] as? [[String: String]])
      let kept = Dictionary(entries.map { ($0["key"]!, $0["value"]!) }) { first, _ in first }
      #expect(kept["preprocessing size"] == "7x8")
      #expect(kept["preprocessing mean"] == "0.5,0.25,0.5")
      #expect(kept["preprocessing std"] == "0.25,0.25,0.25")
      #expect(kept["preprocessing channels"] == "bgr")
      #expect(kept["preprocessing layout"] == "nchw")

      let unsaid = try digest(file, pictures)
      #expect(try unsaid == digest(file, pictures, said))
      #expect(try unsaid != digest(file, pictures, ["--mean", "0"]))
      #expect(try digest(convolution, pictures, said) != digest(convolution, pictures))
      let verified = try Tool.qverify(file, pictures, "--reference", convolution)
      #expect(verified.status == 0, "\(verified.errors)")
    }

    /// Statistics of parts keep it too: the file is that of one conversion. Parts that were read in
    /// different ways are refused.
    @Test func preprocessingIsKeptInStatistics() throws {
      let said = ["--resize", "fit", "--mean", "0.5,0.25,0.5"]
      let all = try pictures(MediaTests.names)
      let (whole, merged) = (folder.path("whole.qm"), folder.path("merged.qm"))
      let options = ["--min-sqnr", "0", "--quiet"]
      #expect(
        try Tool.qconvert.run([convolution, whole, "--samples", all] + said + options).status == 0)
      var parts: [String] = []
      for (number, names) in [MediaTests.names.prefix(4), MediaTests.names.dropFirst(4)]
        .enumerated()
      {
        let part = folder.path("part\(number)")
        try FileManager.default.createDirectory(
          atPath: part, withIntermediateDirectories: true)
        for name in names {
          try FileManager.default.copyItem(atPath: all + "/" + name, toPath: part + "/" + name)
        }
        parts.append(folder.path("part\(number).qstats"))
        let observed = try Tool.qconvert.run(
          [convolution, "--observe-only", parts[number], "--samples", part, "--quiet"] + said)
        try #require(observed.status == 0, "\(observed.errors)")
      }
      let made = try Tool.qconvert.run([convolution, merged, "--statistics"] + parts + options)
      #expect(made.status == 0, "\(made.errors)")
      #expect(
        try Data(contentsOf: URL(filePath: merged)) == Data(contentsOf: URL(filePath: whole)))
      #expect(try digest(merged, all) == digest(whole, all, said))

      let other = folder.path("other.qstats")
      #expect(
        try Tool.qconvert(
          convolution, "--observe-only", other, "--samples", folder.path("part1"), "--quiet"
        ).status == 0)
      let refused = try Tool.qconvert.run(
        [convolution, folder.path("o.qm"), "--statistics", parts[0], other] + options)
      #expect(refused.status == 65)
      #expect(
        refused.errors.contains("other.qstats") && refused.errors.contains("resize fill"),
        "\(refused.errors)")
    }

    @Test func resultsHaveTheNamesOfThePictures() throws {
      let (pictures, results) = (try pictures(["rgb.png", "odd.jpg"]), folder.path("results"))
      #expect(try Tool.qrun(convolution, pictures, "--output", results).status == 0)
      let names = try FileManager.default.contentsOfDirectory(atPath: results).sorted()
      #expect(names == ["odd.y.npy", "rgb.y.npy"])
      // They lie beside the pictures as expected outputs; one picture is a sample too.
      for name in names {
        try FileManager.default.copyItem(
          atPath: results + "/" + name, toPath: pictures + "/" + name)
      }
      let file = folder.path("o.qm")
      let made = try Tool.qconvert(
        convolution, file, "--bits", "32", "--samples", pictures, "--quiet")
      #expect(made.status == 0, "\(made.errors)")
      let verified = try Tool.qverify(file, pictures, "--json")
      #expect(verified.status == 0, "\(verified.errors)")
      #expect(try verified.json["truth"] as? String == "outputs beside the samples")
      #expect(try Tool.qrun(file, pictures + "/odd.jpg", "--digest").status == 0)
    }

    @Test func whatIsWrongWithAPictureIsOneLine() throws {
      let pictures = try pictures(["rgb.png", "reject/truncated.jpg"])
      let damaged = try Tool.qconvert(convolution, folder.path("o.qm"), "--samples", pictures)
      #expect(damaged.status == 65)
      #expect(
        damaged.errors.split(separator: "\n").last?.hasSuffix(
          "truncated.jpg: the picture is damaged (Premature end of JPEG file); save it again, or remove it"
        ) == true, "\(damaged.errors)")
      #expect(try folder.names == ["pictures"])
      func expect(_ status: Int32, _ text: String, _ arguments: [String]) throws {
        let result = try Tool.qrun.run(arguments + ["--digest"])
        #expect(result.status == status, "\(result.errors)")
        #expect(result.errors.contains(text), "\(result.errors)")
        #expect(result.errors.split(separator: "\n").count == 1 || status == 64)
      }
      let picture = pictures + "/rgb.png"
      try expect(65, "pictures need 3 axes", [Fixture.model, picture])
      try expect(65, "does not fit input", [convolution, picture, "--size", "9x9"])
      try expect(64, "pictures feed the only input", [convolution, picture, "--map", "a=x"])
      try expect(
        64, "--size says nothing about arrays",
        [Fixture.model, Fixture.evaluation, "--size", "9x9"])
      try expect(64, "--std '0'", [convolution, picture, "--std", "0"])
      let line = fixture("models/ppocr_cls/model.onnx")
      try expect(64, "state it with --size", [line, picture])
      try FileManager.default.copyItem(
        atPath: picture, toPath: pictures + "/rgb.jpeg")
      try expect(65, "rgb.jpeg and rgb.png have the same name", [convolution, pictures])
    }
  #else
    @Test func aBuildWithoutDecodersSaysWhatItNeeds() throws {
      let result = try Tool.qrun(convolution, pictures(["rgb.png"]), "--digest")
      #expect(result.status == 65)
      #expect(result.errors.contains("libpng and libjpeg-turbo"), "\(result.errors)")
    }
  #endif

  private func digest(_ model: String, _ samples: String, _ options: [String] = []) throws -> String
  {
    let result = try Tool.qrun.run([model, samples, "--digest"] + options)
    #expect(result.status == 0, "\(result.errors)")
    return result.output
  }

  /// Rows of numbers for digits_mlp, `[n, 64]`.
  private func rows(_ count: Int) -> [[Float]] {
    (0..<count).map { row in (0..<64).map { Float(($0 * 37 + row * 11) % 17) / 16 } }
  }

  @Test func rowsOfATableAreSamples() throws {
    let (table, array, rows) = (folder.path("t.csv"), folder.path("t.npy"), rows(12))
    let names = (0..<64).map { "x\($0)" } + ["label"]
    let lines = rows.enumerated().map { row, numbers in
      (numbers.map { "\($0)" } + ["\(row % 10)"]).joined(separator: ",")
    }
    try ([names.joined(separator: ",")] + lines).joined(separator: "\n")
      .write(toFile: table, atomically: true, encoding: .utf8)
    try npy([12, 64], rows.flatMap(\.self)).write(to: URL(fileURLWithPath: array))
    #expect(
      try digest(Fixture.model, table, ["--columns", "0-63"]) == digest(Fixture.model, array))

    // The columns are kept, and the column of the labels is none of them.
    let file = folder.path("o.qm")
    let tuned = try Tool.qtune(
      Fixture.model, file, "--bits", "4", "--samples", table, "--labels", "label", "--steps", "2",
      "--columns", "0-63", "--min-sqnr", "0", "--quiet")
    #expect(tuned.status == 0, "\(tuned.errors)")
    #expect(try digest(file, table) == digest(file, array))
    let wide = try Tool.qrun(Fixture.model, table, "--digest")
    #expect(wide.status == 65)
    #expect(wide.errors.contains("sample '0000': shape [65] does not fit"), "\(wide.errors)")
    try "1,2\n3,\n".write(toFile: table, atomically: true, encoding: .utf8)
    let blank = try Tool.qconvert(Fixture.model, file, "--samples", table)
    #expect(blank.status == 65)
    #expect(
      blank.errors.hasSuffix(
        "t.csv: line 2, column 1 is blank; expected a finite number with a decimal point; "
          + "fill in or remove the row, or state it with --columns\n"), "\(blank.errors)")
  }

  /// A WAV file of one channel of 16 bits.
  private func wave(_ samples: [Int16], rate: UInt32) -> Data {
    func bytes<Number: FixedWidthInteger>(_ number: Number) -> Data {
      withUnsafeBytes(of: number.littleEndian) { Data($0) }
    }
    let size = UInt32(2 * samples.count)
    var file = Data("RIFF".utf8) + bytes(36 + size)
    file += Data("WAVEfmt ".utf8) + bytes(UInt32(16))
    for number in [UInt16(1), 1] { file += bytes(number) }
    for number in [rate, 2 * rate] { file += bytes(number) }
    for number in [UInt16(2), 16] { file += bytes(number) }
    file += Data("data".utf8) + bytes(size)
    for sample in samples { file += bytes(sample) }
    return file
  }

  @Test func soundsAreSamplesOfOneRate() throws {
    let (sounds, arrays) = (folder.path("sounds"), folder.path("arrays"))
    for path in [sounds, arrays] {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    for (index, row) in rows(9).enumerated() {
      let codes = row.map { Int16($0 * 16384) }
      try wave(codes, rate: 16_000).write(to: URL(fileURLWithPath: "\(sounds)/\(index).WAV"))
      try npy([1, 64], codes.map { Float($0) / 32768 })
        .write(to: URL(fileURLWithPath: "\(arrays)/\(index).npy"))
    }
    #expect(try digest(Fixture.model, sounds) == digest(Fixture.model, arrays))
    let file = folder.path("o.qm")
    let made = try Tool.qconvert(Fixture.model, file, "--samples", sounds)
    #expect(made.status == 0, "\(made.errors)")
    #expect(made.errors.contains("sounds are read with sample-rate 16000"), "\(made.errors)")

    let slow = folder.path("slow.wav")
    try wave([Int16](repeating: 1, count: 64), rate: 8_000).write(to: URL(fileURLWithPath: slow))
    #expect(try Tool.qrun(Fixture.model, slow, "--digest").status == 0)
    let refused = try Tool.qrun(file, slow, "--digest")
    #expect(refused.status == 65)
    #expect(
      refused.errors.contains("slow.wav: 8000 frames a second, expected 16000; resample it"),
      "\(refused.errors)")
  }

  /// Weights and samples in a `.safetensors` file do what they do in NumPy's formats.
  @Test func safetensorsAreWeightsAndSamples() throws {
    let (file, weights) = (folder.path("o.qm"), folder.path("w.safetensors"))
    #expect(try Tool.qconvert(Fixture.model, file, "--bits", "32").status == 0)
    let exported = try Tool.qexport(file, weights, "--reference", Fixture.model)
    try #require(exported.status == 0, "\(exported.errors)")
    let archive = folder.path("w.npz")
    #expect(try Tool.qexport(file, archive, "--reference", Fixture.model).status == 0)
    for (number, path) in [weights, archive].enumerated() {
      let made = try Tool.qconvert(
        Fixture.model, folder.path("\(number).qm"), "--bits", "32", "--weights", path)
      #expect(made.status == 0, "\(made.errors)")
    }
    #expect(
      try Tool.qrun(folder.path("0.qm"), Fixture.evaluation, "--digest").output
        == Tool.qrun(folder.path("1.qm"), Fixture.evaluation, "--digest").output)

    let small = folder.path("small.qm")
    #expect(try Tool.qconvert(weights, small, "--bits", "8").status == 0)
    #expect(try Tool.qverify(small, weights).status == 0)

    let (array, samples) = (folder.path("x.npy"), folder.path("x.safetensors"))
    let numbers = (0..<12 * 64).map { Float($0 * 37 % 17) / 16 }
    try npy([12, 64], numbers).write(to: URL(fileURLWithPath: array))
    #expect(try Tool.qconvert(array, file, "--bits", "32").status == 0)
    #expect(try Tool.qexport(file, samples).status == 0)
    let digests = try [array, samples].map { path in
      let result = try Tool.qrun(Fixture.model, path, "--digest")
      #expect(result.status == 0, "\(result.errors)")
      return result.output
    }
    #expect(digests[0] == digests[1])
  }
}

import QMMedia
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

/// The pictures of `fixtures/generate/pictures.py`.
@Suite struct PictureTests {
  private struct Case: Decodable {
    let array: String
    let file: String
    let size: String
    let resize: String
    let channels: String

    func preprocessing(_ elementType: ElementType) throws -> Preprocessing {
      let shape = Shape([.fixed(1), .free("h"), .free("w"), .fixed(channels == "gray" ? 1 : 3)])
      return try Preprocessing(
        [.size: size, .resize: resize, .channels: channels, .layout: "nhwc"],
        for: SampleInput("x", ValueType(elementType, shape)))
    }
  }

  #if Media
    /// Decoders may differ in the last bit; resampling does not.
    @Test func pixelsAreThoseOfPillow() throws {
      let archive = try NPZArchive(path: Fixtures.path("pictures/expected.npz"))
      let cases: [Case] = try Fixtures.json("pictures/expected.json")
      #expect(cases.count >= 80)
      for one in cases {
        let picture = try Picture(path: Fixtures.path("pictures/" + one.file))
        let found = try one.preprocessing(.uint8).tensor(of: picture)
        let expected = try archive.tensor(named: one.array)
        #expect(found.shape == [1] + expected.shape, "\(one.file)")
        let (ours, theirs) = (found.elements(as: UInt8.self), expected.elements(as: UInt8.self))
        let largest = zip(ours, theirs).map { abs(Int($0) - Int($1)) }.max() ?? 0
        let allowed = one.file.hasSuffix(".png") ? 0 : 1
        #expect(largest <= allowed, "\(one.file) \(one.resize): \(largest)")
      }
    }

    @Test func whatIsNoWholePictureIsRefused() throws {
      let codes: [String: String] = try Fixtures.json("pictures/reject/expected.json")
      #expect(codes.count >= 14)
      for (name, code) in codes {
        do {
          _ = try Picture(path: Fixtures.path("pictures/reject/" + name))
          Issue.record("\(name) was read")
        } catch {
          #expect(
            error.code == (code == "malformed" ? .malformed : .unsupported), "\(name): \(error)")
          #expect(!error.description.contains("\n"))
        }
      }
    }

    @Test func moreThanTheLimitIsRefusedBeforeItIsDecoded() throws {
      var limits = MediaLimits.standard
      limits.pixelCount = 40 * 30 - 1
      #expect(throws: QMError.unsupported("")) {
        try Picture(path: Fixtures.path("pictures/rgb.png"), limits: limits)
      }
      limits.pixelCount += 1
      #expect(try Picture(path: Fixtures.path("pictures/rgb.png"), limits: limits).width == 40)
      limits.fileByteCount = 10
      #expect(throws: QMError.unsupported("")) {
        try Picture(path: Fixtures.path("pictures/rgb.png"), limits: limits)
      }
    }

    /// A file of some hundred bytes would take gigabytes on the way to a wide input.
    @Test func aLineThatWouldBecomeAnAreaIsRefused() throws {
      let line = try Picture(path: Fixtures.path("pictures/line.png"))
      #expect((line.width, line.height) == (1, 10_000))
      let input = SampleInput("x", ValueType(.uint8, [1, 1, 8, 16_384]))
      #expect(throws: QMError.unsupported("")) {
        try Preprocessing([.resize: "stretch"], for: input).tensor(of: line)
      }
      #expect(
        try Preprocessing([.resize: "fit"], for: input).tensor(of: line).shape == [1, 1, 8, 16_384])
    }

    @Test func aFolderWithoutPicturesIsRefused() throws {
      #expect(throws: QMError.invalidInput("")) {
        _ = try MediaFolder(
          .pictures, path: Fixtures.path("sounds"), input: SampleInput("x"), outputs: []
        ) { (path) throws(QMError) in try Tensor(zeros: .uint8, [1]) }
      }
    }

    @Test func layoutChannelsMeanAndStd() throws {
      let picture = try Picture(path: Fixtures.path("pictures/rgb.png"))
      func tensor(_ texts: [Preprocessing.Property: String], _ type: ValueType) throws -> Tensor {
        try Preprocessing(texts, for: SampleInput("x", type)).tensor(of: picture)
      }
      let pixels = try tensor([:], ValueType(.uint8, [1, 3, 30, 40])).elements(as: UInt8.self)
      let area = 30 * 40
      let normalized = try tensor(
        [.mean: "0.5,0.25,0", .std: "0.5,0.25,2"], ValueType(.float32, [1, 3, 30, 40])
      ).elements(as: Float.self)
      for (channel, (mean, std)) in [(0.5, 0.5), (0.25, 0.25), (0, 2)].enumerated() {
        for place in [0, 7, area - 1] {
          let pixel = Double(pixels[channel * area + place])
          #expect(normalized[channel * area + place] == Float((pixel / 255 - mean) / std))
        }
      }
      // The last axis has the channels, in the other order.
      let last = try tensor([.channels: "bgr"], ValueType(.uint8, [30, 40, 3]))
      #expect(last.shape == [1, 30, 40, 3])
      let swapped = last.elements(as: UInt8.self)
      for place in [0, 41, area - 1] {
        for channel in 0..<3 {
          #expect(swapped[3 * place + channel] == pixels[(2 - channel) * area + place])
        }
      }
      // As fraction: the pixels themselves, exactly.
      let raw = try tensor([.std: "1/255"], ValueType(.float32, [1, 3, 30, 40]))
      #expect(raw.elements(as: Float.self) == pixels.map(Float.init))
    }
  #else
    @Test func aBuildWithoutDecodersSaysSo() throws {
      #expect(throws: QMError.unsupported("")) {
        try Picture(path: Fixtures.path("pictures/rgb.png"))
      }
    }
  #endif

  @Test func textsMakeTheSameValueAgain() throws {
    let input = SampleInput("x", ValueType(.float32, [1, 3, 8, 9]))
    let one = try Preprocessing(
      [.resize: "fit", .mean: "0.1,0.2,0.3", .std: "1/3", .channels: "bgr"], for: input)
    let texts = Dictionary(uniqueKeysWithValues: one.texts.map { ($0.property, $0.text) })
    #expect(texts.count == 6)
    #expect(texts[.size] == "9x8")
    // The input's shape is not needed any more.
    let free = Shape([.free("n"), .free("c"), .free("h"), .free("w")])
    #expect(try Preprocessing(texts, for: SampleInput("x", ValueType(.float32, free))) == one)
  }

  @Test func whatIsNotKnownOrNotAllowedIsRefused() throws {
    let free = Shape([.free("n"), .free("c"), .free("h"), .free("w")])
    func attempt(_ texts: [Preprocessing.Property: String], _ shape: Shape, _ type: ElementType)
      throws
    {
      _ = try Preprocessing(texts, for: SampleInput("x", ValueType(type, shape)))
    }
    let guess = #expect(throws: QMError.self) { try attempt([.size: "8x8"], free, .float32) }
    #expect(guess?.remedies == [.statePreprocessing("layout")])
    #expect(throws: QMError.usage("")) { try attempt([.layout: "nhwc"], free, .float32) }
    #expect(throws: QMError.usage("")) { try attempt([.mean: "0.5"], [1, 3, 8, 8], .uint8) }
    #expect(throws: QMError.usage("")) { try attempt([.mean: "1,2,3"], [1, 1, 8, 8], .float32) }
    #expect(throws: QMError.unsupported("")) { try attempt([:], [1, 64], .float32) }
    for (property, text) in [
      (Preprocessing.Property.size, "224"), (.size, "0x3"), (.size, "3x99999999999999999999"),
      (.std, "0"), (.std, "1/0"), (.mean, "nan"), (.mean, ""), (.mean, "1/2/3"), (.mean, "1,2"),
      (.layout, "NCHW"), (.channels, "rgba"), (.resize, ""),
    ] {
      #expect(throws: QMError.usage(""), "\(property) \(text)") { try property.check(text) }
    }
  }
}

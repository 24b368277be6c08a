import QMTensor

/// A decoded WAV file: uncompressed RIFF of 16 or 24 bits, or of float32.
public struct Sound: Sendable {
  /// Frames a second.
  public let rate: Int
  /// Channels × frames: integers divided by their range, so that they are in [−1, 1); floats as stored.
  public let samples: Tensor

  private enum Encoding {
    case integer16, integer24, float32

    var byteCount: Int {
      switch self {
      case .integer16: 2
      case .integer24: 3
      case .float32: 4
      }
    }
  }

  /// Maximum number of channels, as of a microphone array.
  private static let largestChannelCount = 64

  /// Decodes a file.
  /// - Throws: `cannotOpen`, `malformed`, `outOfMemory`; `unsupported` for other encodings. The path is
  ///   the context.
  public init(path: String, limits: MediaLimits = .standard) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) -> Sound in
      try Sound(bytes: limits.content(of: path))
    }
  }

  /// Decodes a file in memory.
  /// - Throws: as ``init(path:limits:)``, without the path.
  public init(bytes: Buffer) throws(QMError) {
    defer { withExtendedLifetime(bytes) {} }
    let file = UnsafeRawBufferPointer(bytes.bytes)
    guard file.count >= 12, Sound.text(file, 0) == "RIFF", Sound.text(file, 8) == "WAVE" else {
      throw .malformed(
        "not a WAV file (RIFF)", remedies: .changeModel(how: "save it as WAV of 16 bits"))
    }
    var format: (encoding: Encoding, channels: Int, rate: Int)?
    var place = 12
    // Chunks: a name, the size of what follows, and that, filled up to an even size.
    while file.count - place >= 8 {
      let size = Sound.number(file, place + 4, bytes: 4)
      let start = place + 8
      switch Sound.text(file, place) {
      case "fmt ":
        guard size >= 16, size <= file.count - start else { throw Sound.cutOff(place) }
        format = try Sound.format(UnsafeRawBufferPointer(rebasing: file[start..<start + size]))
      case "data":
        guard let format else {
          throw QMError(
            .malformed, "the sound comes before its format", context: [.offset(place)])
        }
        guard size <= file.count - start else { throw Sound.cutOff(place) }
        let content = UnsafeRawBufferPointer(rebasing: file[start..<start + size])
        rate = format.rate
        samples = try Sound.decoded(content, format.encoding, channels: format.channels)
        return
      default: break
      }
      guard size <= file.count - start else { throw Sound.cutOff(place) }
      place = start + size + size % 2
    }
    throw .malformed("the file holds no sound")
  }

  private static func cutOff(_ place: Int) -> QMError {
    QMError(
      .malformed, "a chunk exceeds the file, which was cut off or not finished",
      remedies: [.changeModel(how: "save it again, or remove it")], context: [.offset(place)])
  }

  /// - Parameter chunk: at least 16 bytes.
  private static func format(
    _ chunk: UnsafeRawBufferPointer
  ) throws(QMError) -> (Encoding, channels: Int, rate: Int) {
    var tag = number(chunk, 0, bytes: 2)
    let (channels, rate) = (number(chunk, 2, bytes: 2), number(chunk, 4, bytes: 4))
    let (frame, bits) = (number(chunk, 12, bytes: 2), number(chunk, 14, bytes: 2))
    // WAVE_FORMAT_EXTENSIBLE: the tag begins a GUID.
    if tag == 0xfffe, chunk.count >= 40 { tag = number(chunk, 24, bytes: 2) }
    let encoding: Encoding
    switch (tag, bits) {
    case (1, 16): encoding = .integer16
    case (1, 24): encoding = .integer24
    case (3, 32): encoding = .float32
    default:
      throw .unsupported(
        "\(bits) bits of format \(tag); expected integers of 16 or 24 bits (format 1), or floats of 32 "
          + "(format 3)", remedies: .changeModel(how: "save it as WAV of 16 bits"))
    }
    guard (1...largestChannelCount).contains(channels), rate > 0,
      frame == channels * encoding.byteCount
    else {
      throw .malformed(
        "\(channels) channels in frames of \(frame) bytes, \(rate) a second; expected frames of "
          + "\(encoding.byteCount) bytes for each of 1 to \(largestChannelCount) channels")
    }
    return (encoding, channels, rate)
  }

  private static func decoded(
    _ content: UnsafeRawBufferPointer, _ encoding: Encoding, channels: Int
  ) throws(QMError) -> Tensor {
    let width = encoding.byteCount
    let frames = content.count / (width * channels)
    guard frames > 0, content.count == frames * width * channels else {
      throw .malformed(
        "\(content.count) bytes of sound; expected whole frames of \(width * channels), and at least one"
      )
    }
    return try Tensor([channels, frames], as: Float.self) { samples in
      for channel in 0..<channels {
        for frame in 0..<frames {
          let bits = number(content, (frame * channels + channel) * width, bytes: width)
          samples[channel * frames + frame] =
            switch encoding {
            case .integer16: Float(Int16(truncatingIfNeeded: bits)) / 0x1p15
            case .integer24: Float(Int32(truncatingIfNeeded: bits << 8) >> 8) / 0x1p23
            case .float32: Float(bitPattern: UInt32(truncatingIfNeeded: bits))
            }
        }
      }
    }
  }

  /// The sound as the network takes it, with a batch of 1: channels and frames if the input has three
  /// axes, else the frames of the only channel.
  /// - Parameter expectedRate: frames a second that the network is made for; nil takes any.
  /// - Throws: `invalidInput` for another rate, or several channels for an input without that axis.
  public func tensor(for input: SampleInput, rate expectedRate: Int?) throws(QMError) -> Tensor {
    guard rate == expectedRate ?? rate else {
      throw .invalidInput(
        "\(rate) frames a second, expected \(expectedRate ?? 0)",
        remedies: .changeModel(
          how: "resample it, as with ffmpeg -i in.wav -ar \(expectedRate ?? 0) out.wav"))
    }
    let (channels, frames) = (samples.shape[0], samples.shape[1])
    if input.type?.shape.rank == 3 { return try samples.reshaped([1, channels, frames]) }
    guard channels == 1 else {
      throw .invalidInput(
        "\(channels) channels for input '\(input.name.abbreviated)', which takes one",
        remedies: .changeModel(how: "mix them, as with ffmpeg -i in.wav -ac 1 out.wav"))
    }
    return try samples.reshaped([1, frames])
  }

  // MARK: Bytes

  private static func text(_ bytes: UnsafeRawBufferPointer, _ place: Int) -> String {
    String(decoding: bytes[place..<place + 4], as: UTF8.self)
  }

  /// A little-endian number without a sign, of up to 4 bytes.
  private static func number(
    _ bytes: UnsafeRawBufferPointer, _ place: Int, bytes count: Int
  ) -> Int {
    (0..<count).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
  }
}

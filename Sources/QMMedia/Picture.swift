import CQMPictures
import QMTensor

/// Limits on what a file of pictures, sound or tables may require. A file beyond a limit is refused as
/// `unsupported`, before anything is allocated.
public struct MediaLimits: Hashable, Sendable {
  /// Maximum number of pixels of a picture: 400 MB in memory; a file of a few kilobytes may ask for
  /// it. Cameras make pictures of up to about 100 million pixels.
  public var pixelCount = 1 << 27
  /// Maximum number of columns of a table. Each takes up to 50 bytes while its row is read.
  public var columnCount = 1 << 20
  /// Maximum size of a file, in bytes.
  public var fileByteCount = 2 << 30

  /// Limits for files from untrusted sources.
  public static let standard = MediaLimits()

  /// The standard limits; each may then be changed.
  public init() {}

  /// The content of a file.
  /// - Throws: `cannotOpen`, `malformed`, `outOfMemory`; `unsupported` for a larger file.
  func content(of path: String) throws(QMError) -> Buffer {
    let file = try OpenFile(path: path)
    guard file.count <= fileByteCount else {
      throw .unsupported("the file has \(file.count) bytes; the limit is \(fileByteCount)")
    }
    return try file.bytes(0..<file.count)
  }
}

/// A decoded picture: rows from the top, pixels from the left, 8 bits for each channel, as they are
/// stored. Transparency is dropped, 16 bits are cut to the upper 8, and colours are not managed.
public struct Picture: Sendable {
  /// Pixels of a row.
  public let width: Int
  /// Number of rows.
  public let height: Int
  /// 1 for gray, 3 for red, green and blue.
  public let channelCount: Int
  /// `height` × `width` × `channelCount` bytes.
  let pixels: Buffer

  /// A picture of zeros.
  /// - Throws: `outOfMemory`.
  init(width: Int, height: Int, channelCount: Int) throws(QMError) {
    self.width = width
    self.height = height
    self.channelCount = channelCount
    pixels = try Buffer.allocate(byteCount: width * height * channelCount)
  }

  /// Decodes a PNG or JPEG file, and turns it upright if its EXIF data say that it lies on its side.
  /// - Throws: `cannotOpen`, `malformed`, `outOfMemory`; `unsupported` for other formats, too many
  ///   pixels, CMYK, and in a build without decoders. The path is the context.
  public init(path: String, limits: MediaLimits = .standard) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) -> Picture in
      try Picture(bytes: limits.content(of: path), limits: limits)
    }
  }

  /// Decodes a PNG or JPEG file in memory.
  /// - Throws: as ``init(path:limits:)``, without the path.
  public init(bytes: Buffer, limits: MediaLimits = .standard) throws(QMError) {
    defer { withExtendedLifetime(bytes) {} }
    let file = UnsafeRawBufferPointer(bytes.bytes)
    let decode: Decoder
    switch FileKind(file) {
    case .png: decode = qm_png_read
    case .jpeg: decode = qm_jpeg_read
    case let kind?: throw kind.refusal(expected: "a picture (PNG or JPEG)")
    case nil:
      throw .malformed(
        "not a picture; expected PNG or JPEG", remedies: .changeModel(how: "save it as PNG"))
    }
    var header = qm_picture()
    try Picture.call(decode, file, &header, nil)
    let (width, height) = (Int(header.width), Int(header.height))
    guard width * height <= limits.pixelCount else {
      throw .unsupported(
        "\(width) × \(height) pixels; the limit is \(limits.pixelCount)",
        remedies: .changeModel(how: "make the picture smaller"))
    }
    let picture = try Picture(
      width: width, height: height, channelCount: Int(header.channels))
    try Picture.call(decode, file, &header, picture.pixels.base)
    self = try picture.upright(Int(header.orientation))
  }

  private typealias Decoder =
    @convention(c) (
      UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<qm_picture>?, UnsafeMutablePointer<UInt8>?,
      UnsafeMutablePointer<CChar>?
    ) -> qm_picture_status

  private static func call(
    _ decode: Decoder, _ file: UnsafeRawBufferPointer, _ header: inout qm_picture,
    _ pixels: UnsafeMutableRawPointer?
  ) throws(QMError) {
    var message = [CChar](repeating: 0, count: Int(QM_PICTURE_MESSAGE_SIZE))
    let status = decode(
      file.baseAddress?.assumingMemoryBound(to: UInt8.self), file.count, &header,
      pixels?.assumingMemoryBound(to: UInt8.self), &message)
    let text = String(
      decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    switch status {
    case QM_PICTURE_OK: return
    case QM_PICTURE_MALFORMED:
      throw .malformed(
        "the picture is damaged (\(text))",
        remedies: .changeModel(how: "save it again, or remove it"))
    case QM_PICTURE_UNSUPPORTED:
      throw .unsupported(
        "\(text); expected RGB or gray", remedies: .changeModel(how: "save it as PNG"))
    case QM_PICTURE_NO_DECODER:
      throw .unsupported(
        "this build reads no pictures",
        remedies: .changeModel(
          how: "build it with the trait Media, which needs libpng and libjpeg-turbo"),
        .changeModel(how: "decode them and save their numbers as the network takes them (.npy)"))
    default: throw .outOfMemory(byteCount: file.count)
    }
  }

  // MARK: Pixels

  var bytes: UnsafeMutablePointer<UInt8> { pixels.base.assumingMemoryBound(to: UInt8.self) }

  /// The picture as it stood in front of the camera.
  /// - Parameter orientation: of EXIF: 1 is upright; 2 to 4 are mirrored or turned by 180 degrees; in
  ///   5 to 8 rows and columns are exchanged.
  private func upright(_ orientation: Int) throws(QMError) -> Picture {
    guard (2...8).contains(orientation) else { return self }
    let isTransposed = orientation >= 5
    let mirrorsX = [2, 3, 7, 8].contains(orientation)
    let mirrorsY = [3, 4, 6, 7].contains(orientation)
    let result = try Picture(
      width: isTransposed ? height : width, height: isTransposed ? width : height,
      channelCount: channelCount)
    let (source, target) = (bytes, result.bytes)
    for y in 0..<result.height {
      for x in 0..<result.width {
        let (column, row) = isTransposed ? (y, x) : (x, y)
        let from =
          (mirrorsY ? height - 1 - row : row) * width + (mirrorsX ? width - 1 - column : column)
        let to = y * result.width + x
        for channel in 0..<channelCount {
          target[to * channelCount + channel] = source[from * channelCount + channel]
        }
      }
    }
    return result
  }

  /// The luma of ITU-R BT.601 of each pixel, 0.299 R + 0.587 G + 0.114 B with weights of 16 bits behind
  /// the point, rounded to nearest; the picture itself if it is gray.
  /// - Throws: `outOfMemory`.
  func gray() throws(QMError) -> Picture {
    guard channelCount == 3 else { return self }
    let result = try Picture(width: width, height: height, channelCount: 1)
    let (source, target) = (bytes, result.bytes)
    for place in 0..<width * height {
      let (red, green) = (Int32(source[3 * place]), Int32(source[3 * place + 1]))
      let blue = Int32(source[3 * place + 2])
      target[place] = UInt8((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16)
    }
    return result
  }
}

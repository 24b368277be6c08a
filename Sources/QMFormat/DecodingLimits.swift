/// What a reader accepts at most. A file is untrusted: each limit keeps a small file from taking
/// much memory or time. Every count is also checked against the bytes that are left.
public struct DecodingLimits: Sendable, Hashable {
  /// Memory of all tensors together, in bytes. Default 4 GiB.
  public var tensorByteCount = 4 << 30
  /// Memory of all tensors and inflated sections per byte of the file. Real weights shrink by less
  /// than 64; deflate alone could reach 1,032, and layouts multiply that.
  public var expansion = 256
  /// Allowed to files of any size before `expansion` counts, in bytes. Default 64 MiB.
  public var expansionAllowance = 64 << 20
  /// Structure, names and metadata, inflated, each: memory takes up to ten times
  /// as much. Default 16 MiB; 10⁵ nodes have about 4.
  public var payloadByteCount = 16 << 20
  /// Default 2²⁰: real networks have under 10⁵.
  public var nodeCount = 1 << 20
  /// Values, and so constants. Default 2²¹.
  public var valueCount = 1 << 21
  /// Axes of a value. Real networks have at most 8.
  public var rank = 16
  /// Inputs or outputs of one node, or of the program.
  public var operandCount = 1 << 16
  /// Bytes of one name or one metadata text. Default 1 MiB.
  public var stringByteCount = 1 << 20

  public init() {}

  public static let standard = DecodingLimits()
}

/// Limits on what a reader accepts. A file is untrusted: the limits keep a small file from taking
/// much memory or time. Every count is also checked against the bytes that remain.
public struct DecodingLimits: Sendable, Hashable {
  /// Maximum memory of all constants, in bytes. Default 4 GiB.
  public var tensorByteCount = 4 << 30
  /// Maximum memory of all constants per byte of the file; it applies above ``expansionAllowance``.
  /// Weights of networks stay below 64; deflate alone could reach 1,032, and layouts multiply that.
  public var expansion = 256
  /// Memory of all constants that is allowed for a file of any size, in bytes. Default 64 MiB.
  public var expansionAllowance = 64 << 20
  /// Maximum inflated size of the structure, of the names, of the metadata and of the probes, each, in
  /// bytes. In memory they take up to ten times as much. Default 16 MiB; 10⁵ nodes take about 4 MiB.
  public var payloadByteCount = 16 << 20
  /// Maximum number of nodes. Default 2²⁰; networks in use have under 10⁵.
  public var nodeCount = 1 << 20
  /// Maximum number of values, which include the constants. Default 2²¹.
  public var valueCount = 1 << 21
  /// Maximum number of axes of a value. Networks in use have at most 8.
  public var rank = 16
  /// Maximum number of inputs or outputs of one node, or of the program.
  public var operandCount = 1 << 16
  /// Maximum length of one name or one text of the metadata, in UTF-8 bytes. Default 1 MiB.
  public var stringByteCount = 1 << 20

  /// The standard limits; each may then be changed.
  public init() {}

  /// Limits for files from untrusted sources.
  public static let standard = DecodingLimits()
}

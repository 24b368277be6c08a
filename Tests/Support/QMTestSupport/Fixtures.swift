import Foundation

/// The files in `fixtures/`.
public enum Fixtures {
  /// The path of the folder.
  public static let path = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
    .appending(path: "fixtures").path(percentEncoded: false)

  /// The path of a file or folder in `fixtures/`.
  public static func path(_ relativePath: String) -> String { path + "/" + relativePath }

  /// The names in a folder of `fixtures/` that end with `ending`, sorted.
  public static func names(in relativePath: String, ending: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: Self.path(relativePath))
      .filter { $0.hasSuffix(ending) }.sorted()
  }

  /// The content of a JSON file in `fixtures/`.
  public static func json<Value: Decodable>(_ relativePath: String, as: Value.Type = Value.self)
    throws -> Value
  {
    let bytes = try Data(contentsOf: URL(filePath: path(relativePath)))
    return try JSONDecoder().decode(Value.self, from: bytes)
  }
}

/// Calls `body` with the path of an empty folder, which is removed afterwards.
public func withTemporaryFolder<R>(_ body: (_ path: String) throws -> R) throws -> R {
  let folder = FileManager.default.temporaryDirectory.appending(path: "qm-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path(percentEncoded: false))
}

/// As ``withTemporaryFolder(_:)``, for an asynchronous `body`.
public func withTemporaryFolder<R>(_ body: (_ path: String) async throws -> R) async throws -> R {
  let folder = FileManager.default.temporaryDirectory.appending(path: "qm-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try await body(folder.path(percentEncoded: false))
}

import Foundation
import Testing

/// Runs the built tools as processes.
enum Tool: String {
  case qconvert, qverify, qrun, qinspect, qtune, qexport

  struct Result {
    let status: Int32
    let output: String
    let errors: String

    var json: [String: Any] {
      get throws {
        let object = try JSONSerialization.jsonObject(with: Data(output.utf8))
        return try #require(object as? [String: Any])
      }
    }
  }

  /// The folder of the test bundle, where the build puts the tools as well.
  private var url: URL {
    #if os(macOS)
      let folder = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }!.bundleURL
        .deletingLastPathComponent()
    #else
      let folder = Bundle.main.executableURL!.deletingLastPathComponent()
    #endif
    return folder.appendingPathComponent(rawValue)
  }

  func callAsFunction(_ arguments: String...) throws -> Result {
    try run(arguments)
  }

  /// Starts the tool without waiting for it; what it prints is lost.
  /// - Parameter limit: addresses that it may use, in KiB; nil for no limit.
  func start(_ arguments: [String], addressLimit limit: Int? = nil) throws -> Process {
    let process = Process()
    process.executableURL = url
    process.arguments = arguments
    if let limit {
      process.executableURL = URL(filePath: "/bin/sh")
      process.arguments = ["-c", "ulimit -v \(limit) && exec \"$0\" \"$@\"", url.path] + arguments
    }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    return process
  }

  func run(
    _ arguments: [String], closingOutput: Bool = false, environment: [String: String] = [:]
  ) throws -> Result {
    let process = Process()
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.executableURL = url
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let (output, errors) = (try TemporaryFile(), try TemporaryFile())
    let pipe = Pipe()
    process.standardOutput = closingOutput ? pipe.fileHandleForWriting : output.handle
    process.standardError = errors.handle
    if closingOutput { try pipe.fileHandleForReading.close() }
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationReason == .exit, "\(rawValue) \(arguments) died of a signal")
    return Result(
      status: process.terminationStatus, output: try output.text(), errors: try errors.text())
  }

  /// A file that goes away with the object; a pipe would stop a tool that prints much.
  private final class TemporaryFile {
    private let url = FileManager.default.temporaryDirectory
      .appendingPathComponent("qm-tests-\(UUID().uuidString)")
    let handle: FileHandle

    init() throws {
      _ = FileManager.default.createFile(atPath: url.path, contents: nil)
      handle = try FileHandle(forWritingTo: url)
    }

    deinit {
      try? handle.close()
      try? FileManager.default.removeItem(at: url)
    }

    func text() throws -> String { String(decoding: try Data(contentsOf: url), as: UTF8.self) }
  }
}

/// A folder that goes away with the object.
final class Folder {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory
      .appendingPathComponent("qm-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  func path(_ name: String) -> String { url.appendingPathComponent(name).path }

  /// Names of all files, hidden ones too.
  var names: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: url.path).sorted() }
  }
}

enum Fixture {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
  static let folder = root.appendingPathComponent("fixtures/models/digits_mlp").path
  static let model = folder + "/model.onnx"
  static let calibration = folder + "/calib"
  static let evaluation = folder + "/eval"
  static let labels = folder + "/labels.json"
}

/// An array of little-endian float32 as an `.npy` file has it.
func npy(_ shape: [Int], _ elements: [Float]) -> Data {
  let extents = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
  let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(extents)), }"
  let header = text + String(repeating: " ", count: 117 - text.utf8.count) + "\n"
  var bytes = Data([0x93]) + Data("NUMPY".utf8) + Data([1, 0, UInt8(header.utf8.count), 0])
  bytes += Data(header.utf8)
  for element in elements { withUnsafeBytes(of: element) { bytes.append(contentsOf: $0) } }
  return bytes
}

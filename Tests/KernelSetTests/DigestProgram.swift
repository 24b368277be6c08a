import Foundation
import Synchronization

/// A program that prints the digests of its machine's kernel sets, compiled from the sources of this
/// package. Its files go away with the object.
final class DigestProgram {
  static let compiler = path(of: "clang")

  static func path(of program: String) -> String? {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
      .map { "\($0)/\(program)" }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  /// The folder of the tests, which the program's own sources are in.
  static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()

  private let folder: URL
  private var program: String { folder.appendingPathComponent("digests").path }

  /// - Parameters:
  ///   - compilation: arguments of the compiler for each source.
  ///   - linking: arguments of the compiler beside the objects.
  init(compilation: [String], linking: [String]) throws {
    let root = Self.tests.deletingLastPathComponent().deletingLastPathComponent()
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("qm-digests-\(UUID().uuidString)")
    self.folder = folder
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let include = ["Sources/CQMKernels", "Sources/CQMThreads", "Tests/Support/CKernelDigests"]
      .flatMap { ["-I", root.appendingPathComponent("\($0)/include").path] }
    var sources = [
      root.appendingPathComponent("Sources/CQMThreads/float_environment.c"),
      Self.tests.appendingPathComponent("main.c"),
    ]
    for name in ["Sources/CQMKernels", "Tests/Support/CKernelDigests"] {
      let folder = root.appendingPathComponent(name)
      sources += try FileManager.default.subpathsOfDirectory(atPath: folder.path)
        .map { folder.appendingPathComponent($0) }
    }
    sources.removeAll { $0.pathExtension != "c" }
    let failures = Mutex<[String]>([])
    DispatchQueue.concurrentPerform(iterations: sources.count) { [sources] index in
      let source = sources[index]
      let object = folder.appendingPathComponent("\(index).o").path
      do {
        _ = try Self.output(
          of: Self.compiler!, compilation + ["-O2"] + include + ["-c", source.path, "-o", object])
      } catch {
        failures.withLock { $0.append("\(source.lastPathComponent): \(error)") }
      }
    }
    let messages = failures.withLock { $0 }
    guard messages.isEmpty else { throw Failure(text: messages.joined(separator: "\n")) }
    let objects = sources.indices.map { folder.appendingPathComponent("\($0).o").path }
    _ = try Self.output(of: Self.compiler!, ["-o", program] + objects + linking)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// Digests by kernel set.
  /// - Parameter emulator: the program that runs this one, with its arguments.
  func digests(emulator: [String] = []) throws -> [String: Digests] {
    let words = emulator + [program]
    let text = try Self.output(of: words[0], Array(words.dropFirst()))
    var sets: [String: Digests] = [:]
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: "\t").map(String.init)
      sets[fields[0], default: Digests()].families[fields[1]] = UInt64(fields[2], radix: 16)
    }
    return sets
  }

  struct Failure: Error, CustomStringConvertible {
    let text: String
    var description: String { text }
  }

  /// What a program prints.
  private static func output(of program: String, _ arguments: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let printed = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let text = String(decoding: printed, as: UTF8.self)
    guard process.terminationStatus == 0 else {
      throw Failure(text: "\(program) ended with \(process.terminationStatus): \(text)")
    }
    return text
  }
}

import CKernelDigests
import Foundation
import Synchronization
import Testing

/// The kernels for 64-bit ARM, compiled from the sources of this package and run by an emulator,
/// give the digests that the portable kernels give here. That those are right is what the tests of
/// the operations say.
@Suite struct NEONTests {
  private static let portable = Digests(of: QM_PORTABLE)

  @Test func setsOfThisMachineAgree() {
    for set in [QM_AVX2, QM_AVX_VNNI, QM_AVX512, QM_AVX512_VNNI, QM_NEON, QM_NEON_DOT]
    where qm_kernel_set_available(set) {
      #expect(Digests(of: set).others(than: Self.portable) == [], "kernel set \(set.rawValue)")
    }
  }

  @Test(
    .enabled(
      if: Emulation.missing.isEmpty,
      "not installed: \(Emulation.missing.joined(separator: ", "))"))
  func setsOfARMGiveTheDigestsOfThisMachine() throws {
    let emulation = try Emulation()
    let sets = [
      "max": ["portable", "neon", "neondot"],
      // Without dot products.
      "cortex-a53": ["portable", "neon"],
    ]
    for (processor, expected) in sets {
      let found = try emulation.digests(processor: processor)
      #expect(Set(found.keys) == Set(expected), "\(processor)")
      for (set, digests) in found {
        #expect(digests.others(than: Self.portable) == [], "\(set) of \(processor)")
      }
    }
  }
}

/// A digest for each family of kernels.
struct Digests {
  var families: [String: UInt64] = [:]

  init() {}

  init(of set: qm_kernel_set) {
    var number: Int32 = 0
    while let family = qm_digest_family_at(number)?.pointee {
      families[String(cString: family.name)] = family.digest(set)
      number += 1
    }
  }

  /// Families that have another digest there, or none on one side.
  func others(than digests: Digests) -> [String] {
    Set(families.keys).union(digests.families.keys).sorted()
      .filter { families[$0] == nil || families[$0] != digests.families[$0] }
  }
}

/// A cross compiler, the C library of 64-bit ARM under Linux, and an emulator.
final class Emulation {
  private static let library = "/usr/aarch64-linux-gnu"
  private static let compiler = program("clang")
  private static let emulator = program("qemu-aarch64")

  static var missing: [String] {
    var names: [String] = []
    if compiler == nil { names.append("clang") }
    if emulator == nil { names.append("qemu-aarch64 (qemu-user)") }
    if !FileManager.default.fileExists(atPath: library + "/lib/crt1.o") {
      names.append("\(library) (libc6-dev-arm64-cross)")
    }
    return names
  }

  private static func program(_ name: String) -> String? {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
      .map { "\($0)/\(name)" }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  private let folder: URL

  /// Compiles the program, whose files go away with the object.
  init() throws {
    let root = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("qm-neon-\(UUID().uuidString)")
    self.folder = folder
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let include = ["Sources/CQMKernels", "Sources/CQMThreads", "Tests/KernelDigests"]
      .flatMap { ["-I", root.appendingPathComponent("\($0)/include").path] }
    var sources = [
      root.appendingPathComponent("Sources/CQMThreads/float_environment.c"),
      root.appendingPathComponent("Tests/NEONTests/main.c"),
    ]
    for name in ["Sources/CQMKernels", "Tests/KernelDigests"] {
      sources += try FileManager.default.contentsOfDirectory(
        at: root.appendingPathComponent(name), includingPropertiesForKeys: nil)
    }
    sources.removeAll { $0.pathExtension != "c" }
    let failures = Mutex<[String]>([])
    DispatchQueue.concurrentPerform(iterations: sources.count) { [sources] index in
      let source = sources[index]
      let object = folder.appendingPathComponent("\(index).o").path
      do {
        _ = try Self.output(
          of: Self.compiler!,
          ["--target=aarch64-linux-gnu", "-isystem", Self.library + "/include", "-O2"]
            + include + ["-c", source.path, "-o", object])
      } catch {
        failures.withLock { $0.append("\(source.lastPathComponent): \(error)") }
      }
    }
    let messages = failures.withLock { $0 }
    guard messages.isEmpty else { throw Failure(text: messages.joined(separator: "\n")) }
    // The dynamic library brings the few functions of the compiler's own library that it needs.
    let start = ["crt1.o", "crti.o", "crtn.o"].map { "\(Self.library)/lib/\($0)" }
    let objects = sources.indices.map { folder.appendingPathComponent("\($0).o").path }
    _ = try Self.output(
      of: Self.compiler!,
      ["--target=aarch64-linux-gnu", "-fuse-ld=lld", "-nostdlib", "-L\(Self.library)/lib"]
        + ["-Wl,--dynamic-linker=/lib/ld-linux-aarch64.so.1", "-o", program]
        + start + objects + ["-lm", "-lc"])
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  private var program: String { folder.appendingPathComponent("digests").path }

  /// Digests by kernel set.
  func digests(processor: String) throws -> [String: Digests] {
    let text = try Self.output(
      of: Self.emulator!, ["-L", Self.library, "-cpu", processor, program])
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

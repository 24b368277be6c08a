import Foundation
@_spi(Testing) import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Files in `fixtures/crashes`, found by `make fuzz`. Each of them once crashed a reader, which
/// must now return or throw. There is a folder per fuzz target, see
/// `Tests/Packages/Fuzzing/Sources/fuzz/Target.swift`.
@Suite struct CrashTests {
  private static func files(_ target: String) -> [String] {
    let names = try? Fixtures.names(in: "crashes/\(target)", ending: "")
    return (names ?? []).map { Fixtures.path("crashes/\(target)/\($0)") }
  }

  private func outcome(_ body: () throws -> Void) {
    do { try body() } catch { #expect(error is QMError) }
  }

  @Test(arguments: files("onnx")) func onnx(path: String) throws {
    let bytes = try Buffer.reading(path: path)
    outcome {
      let graph = try ONNXReader.read(bytes: bytes)
      try DefaultPasses.run(on: graph).flattened().program.validate()
    }
  }

  @Test(arguments: files("npy")) func npy(path: String) throws {
    let bytes = try Buffer.reading(path: path)
    outcome { _ = try Tensor(npyBytes: bytes) }
  }

  @Test(arguments: files("npz")) func npz(path: String) throws {
    let bytes = try Buffer.reading(path: path)
    outcome {
      let archive = try NPZArchive(bytes: bytes)
      for name in archive.names { outcome { _ = try archive.tensor(named: name) } }
    }
  }

  @Test(arguments: files("container")) func container(path: String) throws {
    let bytes = Array(try Data(contentsOf: URL(filePath: path)))
    outcome { try run(bytes) }
    outcome { try run(Container.reseal(bytes)) }
  }

  @Test(arguments: files("payload")) func payload(path: String) throws {
    var rest = Array(try Data(contentsOf: URL(filePath: path)))[...]
    var sections: [(kind: Container.Kind, bytes: [UInt8])] = []
    while rest.count >= 4 {
      let length = rest.dropFirst().prefix(3).reversed().reduce(0) { $0 << 8 | Int($1) }
      let content = rest.dropFirst(4).prefix(length)
      sections.append((Container.Kind(rawValue: rest[rest.startIndex]), Array(content)))
      rest = rest.dropFirst(4 + content.count)
    }
    try run(Container.file(of: sections))
  }

  private func run(_ bytes: [UInt8]) throws {
    let buffer = try bytes.withUnsafeBytes(Buffer.copying)
    outcome {
      let model = try Model(
        Program(decoding: buffer), options: Model.Options(runByteLimit: 64 << 20))
      var inputs: [String: Tensor] = [:]
      for port in model.inputs {
        let extents = port.type.shape.axes.map { $0.extent ?? 2 }
        guard let count = Shape.elementCount(of: extents), count <= 1 << 16 else { return }
        let numbers = (0..<count).map { Int32(truncatingIfNeeded: $0 &* 37 &- 5) }
        inputs[port.name] =
          port.type.elementType == .float32
          ? try Tensor(extents, numbers.map { Float($0) * 0.25 })
          : try Tensor(extents, numbers.map { $0 & 1 }).converted(to: port.type.elementType)
      }
      _ = try model.run(inputs)
    }
  }
}

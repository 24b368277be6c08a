import Foundation
import QMTensor

/// Files of fixtures/onnx.
enum Fixtures {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  static let folder = root.appending(path: "fixtures/onnx")

  static let differences = root.appending(path: "fixtures/differences")

  /// Names of the folders in `folder` that hold a model.
  static func cases(in folder: URL) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.sorted().filter {
      FileManager.default.fileExists(atPath: folder.appending(path: "\($0)/model.onnx").path)
    }
  }

  static func bytes(of name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: folder.appending(path: "\(name)/model.onnx")))
  }
}

extension Buffer {
  static func copying(_ bytes: [UInt8]) throws -> Buffer {
    try bytes.withUnsafeBytes { try Buffer.copying($0) }
  }
}

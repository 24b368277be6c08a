// swift-tools-version: 6.2
import PackageDescription

/// An app as a user of the package would write it: it links the runtime and none of the workshop.
let package = Package(
  name: "EmbeddingExample",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "swift-qm", path: "../../..", traits: [])],
  targets: [
    .executableTarget(
      name: "EmbeddingExample",
      dependencies: [.product(name: "QMRuntime", package: "swift-qm")])
  ],
  swiftLanguageModes: [.v6]
)

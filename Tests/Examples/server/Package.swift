// swift-tools-version: 6.2
import PackageDescription

/// Predictions over HTTP: the runtime in a server, without the tools of conversion.
let package = Package(
  name: "PredictionServer",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "swift-qm", path: "../../..", traits: []),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
  ],
  targets: [
    .executableTarget(
      name: "PredictionServer",
      dependencies: [
        .product(name: "QMRuntime", package: "swift-qm"),
        .product(name: "QMNumPy", package: "swift-qm"),
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ])
  ],
  swiftLanguageModes: [.v6]
)

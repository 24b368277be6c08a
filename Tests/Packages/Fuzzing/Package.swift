// swift-tools-version: 6.2
import PackageDescription

// Pictures are fuzzed where their decoders are installed.
let traits: Set<Package.Dependency.Trait> = Context.environment["QM_MEDIA"] == nil ? [] : ["Media"]

// `make fuzz` builds it with the flags that libFuzzer and the address sanitizer need; they stay out
// of the main package.
let package = Package(
  name: "Fuzzing",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "swift-qm", path: "../../..", traits: traits)],
  targets: [
    .executableTarget(
      name: "fuzz",
      dependencies: [
        .product(name: "QMRuntime", package: "swift-qm"),
        .product(name: "QMNumPy", package: "swift-qm"),
        .product(name: "QMSafetensors", package: "swift-qm"),
        .product(name: "QMMedia", package: "swift-qm"),
        .product(name: "QMONNX", package: "swift-qm"),
      ])
  ],
  swiftLanguageModes: [.v6]
)

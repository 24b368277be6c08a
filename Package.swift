// swift-tools-version: 6.2
import PackageDescription

/// Dependencies that only the workshop (readers, quantization, tools) needs.
/// An app depends on this package with `traits: []` and resolves none of them.
let workshop = TargetDependencyCondition.when(traits: ["Workshop"])
/// The decoders of pictures, which only the tools use. `make build` asks for them where they are
/// installed.
let media = TargetDependencyCondition.when(traits: ["Media"])

let package = Package(
  name: "swift-qm",
  platforms: [.macOS(.v15), .iOS(.v18)],
  products: [
    // A product holds every target whose types stand in its interface.
    .library(name: "QMRuntime", targets: ["QMRuntime", "QMFormat", "QMOperations", "QMTensor"]),
    // For C and every language that calls it: `make library`.
    .library(name: "qm", type: .dynamic, targets: ["QMLibrary"]),
    .library(name: "QMNumPy", targets: ["QMNumPy", "QMTensor"]),
    .library(name: "QMSafetensors", targets: ["QMSafetensors", "QMTensor"]),
    .library(name: "QMMedia", targets: ["QMMedia", "QMTensor"]),
    .library(name: "QMGraph", targets: ["QMGraph"]),
    .library(name: "QMONNX", targets: ["QMONNX", "QMGraph"]),
    .library(name: "QMQuantization", targets: ["QMQuantization", "QMReport", "QMGraph"]),
    .executable(name: "qconvert", targets: ["qconvert"]),
    .executable(name: "qverify", targets: ["qverify"]),
    .executable(name: "qinspect", targets: ["qinspect"]),
    .executable(name: "qrun", targets: ["qrun"]),
    .executable(name: "qtune", targets: ["qtune"]),
    .executable(name: "qexport", targets: ["qexport"]),
  ],
  traits: [
    .trait(name: "Workshop", description: "Readers, quantization and the command-line tools."),
    .trait(name: "Media", description: "Samples from PNG and JPEG, with libpng and libjpeg-turbo."),
    .default(enabledTraits: ["Workshop"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Values.
    .target(name: "QMTensor"),

    // What an app links.
    .target(name: "CQMKernels"),
    .target(name: "CQMThreads"),
    .systemLibrary(
      name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    .target(name: "QMOperations", dependencies: ["QMTensor", "CQMKernels", "CQMThreads"]),
    .target(name: "QMFormat", dependencies: ["QMOperations", "CZlib"]),
    .target(name: "QMRuntime", dependencies: ["QMFormat"]),
    .target(name: "CQM"),
    .target(name: "QMLibrary", dependencies: ["CQM", "QMRuntime"]),
    .target(name: "QMNumPy", dependencies: ["QMTensor", "CZlib"]),
    .target(name: "QMSafetensors", dependencies: ["QMTensor"]),

    // The workshop.
    .systemLibrary(
      name: "CProtobufC", pkgConfig: "libprotobuf-c",
      providers: [.apt(["libprotobuf-c-dev"]), .brew(["protobuf-c"])]),
    .target(name: "COnnxProto", dependencies: ["CProtobufC"]),
    .target(name: "QMGraph", dependencies: ["QMFormat"]),
    .target(name: "QMONNX", dependencies: ["QMGraph", "COnnxProto"]),
    .target(name: "QMReport", dependencies: ["QMGraph", "QMRuntime"]),
    .target(name: "QMQuantization", dependencies: ["QMGraph", "QMReport", "QMNumPy"]),

    .target(name: "QMTraining", dependencies: ["QMQuantization"]),

    // Samples as the world has them.
    .systemLibrary(
      name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"]), .brew(["libpng"])]),
    .systemLibrary(
      name: "CJPEG", pkgConfig: "libjpeg",
      providers: [.apt(["libjpeg-dev"]), .brew(["jpeg-turbo"])]
    ),
    .target(
      name: "CQMPictures",
      dependencies: [
        .target(name: "CPNG", condition: media), .target(name: "CJPEG", condition: media),
      ],
      cSettings: [.define("QM_MEDIA", .when(traits: ["Media"]))]),
    .target(name: "QMMedia", dependencies: ["QMNumPy", "CQMPictures"]),

    // The tools.
    .target(
      name: "QMCommands",
      dependencies: [
        "QMQuantization", "QMReport", "QMONNX", "QMNumPy", "QMSafetensors", "QMMedia", "QMTraining",
        .product(name: "ArgumentParser", package: "swift-argument-parser", condition: workshop),
      ]),
    .executableTarget(name: "qconvert", dependencies: ["QMCommands"]),
    .executableTarget(name: "qverify", dependencies: ["QMCommands"]),
    .executableTarget(name: "qinspect", dependencies: ["QMCommands"]),
    .executableTarget(name: "qrun", dependencies: ["QMCommands"]),
    .executableTarget(name: "qtune", dependencies: ["QMCommands"]),
    .executableTarget(name: "qexport", dependencies: ["QMCommands"]),
    // All of them in one program, for the Python package. No product.
    .executableTarget(name: "qtools", dependencies: ["QMCommands"]),

    // ONNX's operator cases: `make onnx-cases`. No product: it tests the reader and the operations.
    .executableTarget(
      name: "onnx-cases", dependencies: ["QMONNX", "QMRuntime"], path: "Tests/Tools/ONNXCases"),

    // What conversion makes of every network, as digests: `make digests`. No product.
    .executableTarget(
      name: "digests", dependencies: ["QMQuantization", "QMONNX", "QMNumPy"],
      path: "Tests/Tools/Digests"),

    // Networks drawn at random, converted and run: `make sweep`. No product.
    .executableTarget(
      name: "sweep", dependencies: ["NetworkSweep", "QMNumPy", "QMTestSupport"],
      path: "Tests/Tools/Sweep"),

    // What forms of convolutions cost on this machine: `make tune`. No product.
    .executableTarget(
      name: "tune", dependencies: ["QMOperations", "QMTestSupport"], path: "Tests/Tools/Tune"),

    // Repairs checksums of damaged files, and takes files apart for the fuzz targets. No product.
    .executableTarget(name: "reseal", dependencies: ["QMFormat"], path: "Tests/Tools/Reseal"),

    // Tests.
    .target(name: "CAllocationCount", path: "Tests/Support/CAllocationCount"),
    .target(
      name: "CKernelDigests", dependencies: ["CQMKernels"], path: "Tests/Support/CKernelDigests"),
    .target(name: "QMTestSupport", dependencies: ["QMTensor"], path: "Tests/Support/QMTestSupport"),
    .target(
      name: "NetworkSweep", dependencies: ["QMQuantization", "QMONNX", "QMTestSupport"],
      path: "Tests/Support/NetworkSweep"),
    .testTarget(name: "QMTensorTests", dependencies: ["QMTensor", "QMTestSupport"]),
    .testTarget(name: "QMNumPyTests", dependencies: ["QMNumPy", "QMTestSupport"]),
    .testTarget(
      name: "QMSafetensorsTests", dependencies: ["QMSafetensors", "QMNumPy", "QMTestSupport"]),
    .testTarget(name: "QMMediaTests", dependencies: ["QMMedia", "QMTestSupport"]),
    .testTarget(name: "QMFormatTests", dependencies: ["QMFormat", "QMTestSupport"]),
    .testTarget(
      name: "QMOperationsTests", dependencies: ["QMOperations", "QMNumPy", "QMTestSupport"]),
    .testTarget(
      name: "QMRuntimeTests", dependencies: ["QMRuntime", "QMTestSupport", "CAllocationCount"]),
    .testTarget(
      name: "QMLibraryTests", dependencies: ["QMLibrary", "CQM", "QMRuntime", "QMTestSupport"]),
    .testTarget(name: "QMGraphTests", dependencies: ["QMGraph", "QMRuntime", "QMTestSupport"]),
    .testTarget(
      name: "QMONNXTests",
      dependencies: ["QMONNX", "QMGraph", "QMRuntime", "QMNumPy", "QMTestSupport"]),
    .testTarget(name: "QMQuantizationTests", dependencies: ["QMQuantization", "QMTestSupport"]),
    .testTarget(
      name: "QMTrainingTests",
      dependencies: ["QMTraining", "QMONNX", "QMNumPy", "QMTestSupport", "NetworkSweep"]),
    .testTarget(name: "QMReportTests", dependencies: ["QMReport", "QMGraph", "QMTestSupport"]),
    .testTarget(
      name: "SystemTests",
      dependencies: ["QMQuantization", "QMONNX", "QMNumPy", "QMTestSupport", "NetworkSweep"]),
    .testTarget(
      name: "KernelSetTests", dependencies: ["CKernelDigests"],
      exclude: ["main.c", "avx512_emulation.h"]),
    .testTarget(
      name: "CommandLineTests",
      dependencies: [
        "qconvert", "qverify", "qinspect", "qrun", "qtune", "qexport", "QMFormat", "QMNumPy",
        "QMOperations",
        "QMTestSupport",
      ]),
  ],
  swiftLanguageModes: [.v6]
)

// `make docs` sets the variable. Nobody who depends on this package resolves the plugin.
if Context.environment["QM_DOCUMENTATION"] != nil {
  package.dependencies.append(
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", exact: "1.5.0"))
}

@_spi(Testing) import QMFormat
import QMGraph
import QMMedia
import QMNumPy
import QMONNX
import QMRuntime
import QMSafetensors
import QMTensor

/// A reader of bytes from strangers. Whatever the bytes are, it returns or throws; a trap, a fault
/// of memory or a hang is a finding.
enum Target: String, CaseIterable {
  /// `.onnx`: the scan, the graph, the passes, the program.
  case onnx
  case npy
  case npz
  case safetensors
  /// PNG and JPEG, decoded and resampled.
  case pictures
  /// WAV.
  case sounds
  /// CSV.
  case tables
  /// `.qm` as it stands, and with its checksums repaired.
  case container
  /// What stands behind the checksums and deflate: the bytes are the sections of a `.qm`, each after
  /// its kind and its length in three bytes. Programs that pass validation are run.
  case payload

  nonisolated(unsafe) static var chosen = Target.onnx

  func run(_ bytes: UnsafeRawBufferPointer) {
    do {
      switch self {
      case .onnx: try Target.readONNX(Buffer.copying(bytes))
      case .npy: _ = try Tensor(npyBytes: Buffer.copying(bytes), limits: Target.arrayLimits)
      case .npz:
        let archive = try NPZArchive(bytes: Buffer.copying(bytes), limits: Target.arrayLimits)
        for name in archive.names { _ = try? archive.tensor(named: name) }
      case .safetensors:
        let file = try SafetensorsFile(bytes: Buffer.copying(bytes))
        for name in file.names { _ = try? file.tensor(named: name) }
      case .pictures:
        let picture = try Picture(bytes: Buffer.copying(bytes), limits: Target.pictureLimits)
        let input = SampleInput("x", ValueType(.float32, [1, 3, 9, 7]))
        _ = try Preprocessing([.resize: "fit"], for: input).tensor(of: picture)
      case .sounds: _ = try Sound(bytes: Buffer.copying(bytes))
      case .tables:
        _ = try? CSVTable(bytes: Buffer.copying(bytes))
        _ = try CSVTable(
          bytes: Buffer.copying(bytes), header: .yes, columns: "0,b,1-2", others: ["y"])
      case .container:
        try? Target.open(Array(bytes))
        try Target.open(Container.reseal(Array(bytes)))
      case .payload: try Target.open(Container.file(of: Target.sections(of: bytes)))
      }
    } catch {
      // Every error is as good as any other.
    }
  }

  private static let arrayLimits: NumPyLimits = {
    var limits = NumPyLimits.standard
    limits.arrayByteCount = 64 << 20
    return limits
  }()

  /// Small pictures, of which many are decoded in a second.
  private static let pictureLimits: MediaLimits = {
    var limits = MediaLimits.standard
    limits.pixelCount = 1 << 20
    return limits
  }()

  private static func readONNX(_ bytes: Buffer) throws(QMError) {
    let graph = try ONNXReader.read(bytes: bytes)
    let program = try DefaultPasses.run(on: graph).flattened().program
    try program.validate()
  }

  /// Opens a `.qm` file, and runs it where its inputs are small.
  static func open(_ bytes: [UInt8]) throws(QMError) {
    // Reads less, and so proves less: it may accept what is refused below.
    _ = try? Model.memoryNeeded(bytes: bytes)
    var limits = DecodingLimits.standard
    limits.expansionAllowance = 16 << 20
    let buffer = try bytes.withUnsafeBytes { (bytes) in
      Result { () throws(QMError) in try Buffer.copying(bytes) }
    }.get()
    let program = try Program(decoding: buffer, limits: limits)
    let model = try Model(program, options: Model.Options(runByteLimit: 64 << 20))
    // Their inputs may be of any shape that the types admit.
    if try QMFile(buffer, limits: limits).probes(limits: limits) != nil {
      let options = Model.Options(runByteLimit: 64 << 20)
      let model = try? Model(bytes: bytes, options: options)
      _ = try model.map { (model) throws(QMError) in
        let session = Session(model)
        return try Watch.shared.limiting(session) { () throws(QMError) in
          try? model.selfTest(bytes: bytes, in: session)
        }
      }
    }
    var inputs: [String: Tensor] = [:]
    for port in model.inputs {
      let extents = port.type.shape.axes.map { $0.extent ?? 2 }
      guard let count = Shape.elementCount(of: extents), count <= 1 << 16 else { return }
      // Large numbers too: they are indices somewhere.
      let numbers = (0..<count).map { Int32(truncatingIfNeeded: $0 &* 37 &- 5) }
      inputs[port.name] = try Tensor(extents, numbers.map { Float($0) * 0.25 })
        .converted(to: .float32)
      if port.type.elementType != .float32 {
        inputs[port.name] = try Tensor(extents, numbers.map { $0 & 1 })
          .converted(to: port.type.elementType)
      }
    }
    let session = Session(model)
    _ = try Watch.shared.limiting(session) { () throws(QMError) in try session.run(inputs) }
  }

  private static func sections(of bytes: UnsafeRawBufferPointer) -> [(
    kind: Container.Kind, bytes: [UInt8]
  )] {
    var sections: [(kind: Container.Kind, bytes: [UInt8])] = []
    var rest = bytes[...]
    while rest.count >= 4 {
      let start = rest.startIndex
      let length =
        Int(rest[start + 1]) | Int(rest[start + 2]) << 8 | Int(rest[start + 3]) << 16
      let content = rest.dropFirst(4).prefix(length)
      sections.append((Container.Kind(rawValue: rest[start]), Array(content)))
      rest = rest.dropFirst(4 + content.count)
    }
    return sections
  }
}

/// Also the name that libFuzzer's `main` asks for.
@_cdecl("LLVMFuzzerTestOneInput")
func runOne(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  Target.chosen.run(UnsafeRawBufferPointer(start: bytes, count: count))
  return 0
}

import Foundation
import QMGraph
import QMONNX
import QMOperations
import QMRuntime
import QMTensor

// Runs ONNX's operator cases: folders of model.onnx and test_data_set_*/{input,output}_k.pb.
//
//     onnx-cases CASES [LIST] [--verbose]
//
// prints how many passed, were refused, differed as schema/onnx.md says, gave wrong outputs, and
// crashed or hung. Exits with 1 if any was wrong or crashed. Each case runs in a worker process, so
// that a crash costs that case only.

/// What became of a case, and why.
struct Verdict {
  enum Kind: String, CaseIterable { case passed, refused, differing, wrong, crashed }
  let kind: Kind
  let reason: String
}

/// The cases whose expected outputs, those of ONNX's reference implementation, are not followed here;
/// with the row of schema/onnx.md that says why.
let differing = [
  "test_dft_inverse": "dft_inverse_of_a_line",
  "test_dft_inverse_opset19": "dft_inverse_of_a_line",
  "test_dynamicquantizelinear": "dynamic_quantize_tie",
  "test_resize_downsample_scales_cubic_align_corners": "resize_align_corners_cubic",
  "test_resize_downsample_scales_linear_align_corners": "resize_align_corners_linear",
]

/// How far outputs may differ from those expected: `rtol` and `atol` of the case in index.json.
struct Tolerance {
  var relative = 1e-3
  var absolute = 1e-7
}

struct Index: Decodable {
  let rtol: Double?
  let atol: Double?
}

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments.first == "--worker", arguments.count == 2 {
  Worker(folder: arguments[1]).run()
} else {
  let names = arguments.filter { $0 != "--verbose" }
  guard (1...2).contains(names.count) else {
    FileHandle.standardError.write(Data("usage: onnx-cases CASES [LIST] [--verbose]\n".utf8))
    exit(64)
  }
  Runner(
    folder: names[0], list: names.count > 1 ? names[1] : nil,
    isVerbose: arguments.contains("--verbose")
  ).run()
}

/// Reads names of cases from its input and prints a line for each.
struct Worker {
  let folder: String

  func run() {
    let index =
      FileManager.default.contents(atPath: folder + "/index.json")
      .flatMap { try? JSONDecoder().decode([String: Index].self, from: $0) } ?? [:]
    while let name = readLine() {
      var tolerance = Tolerance()
      if let relative = index[name]?.rtol { tolerance.relative = relative }
      if let absolute = index[name]?.atol { tolerance.absolute = absolute }
      let verdict = verdict(on: "\(folder)/\(name)", tolerance)
      FileHandle.standardOutput.write(Data("\(verdict.kind.rawValue) \(verdict.reason)\n".utf8))
    }
  }

  private func verdict(on path: String, _ tolerance: Tolerance) -> Verdict {
    do {
      let sets = try FileManager.default.contentsOfDirectory(atPath: path)
        .filter { $0.hasPrefix("test_data_set_") }.sorted()
      for set in sets {
        if let difference = try run(path + "/model.onnx", data: "\(path)/\(set)", tolerance) {
          if let row = differing[String(path.split(separator: "/").last ?? "")] {
            return Verdict(kind: .differing, reason: row)
          }
          return Verdict(kind: .wrong, reason: "\(set): \(difference)")
        }
      }
      return Verdict(kind: .passed, reason: "")
    } catch let error as QMError {
      // A fault of ours is no refusal.
      return Verdict(
        kind: error.code == .internalFault ? .crashed : .refused, reason: error.description)
    } catch {
      return Verdict(kind: .refused, reason: "\(error)")
    }
  }

  /// - Returns: how the outputs differ from those expected; nil where they do not.
  private func run(_ model: String, data: String, _ tolerance: Tolerance) throws -> String? {
    let inputs = try tensors(in: data, "input")
    for case .some(let tensor) in inputs.values where tensor.elementType == .float64 {
      // It is computed in float32; what that cannot hold would become infinite.
      _ = try tensor.converted(to: .float32)
    }
    let names = try ONNXReader.inputNames(path: model)
    // Extents, axes, counts and scales are inputs of many cases, and a network's plan must know
    // them: inputs become constants, first those of integers, then all but the first, at last all.
    let stages: [(Int, Tensor) -> Bool] = [
      { _, _ in false }, { !$1.elementType.isFloatingPoint && $0 >= 0 }, { index, _ in index > 0 },
      { _, _ in true },
    ]
    var refusal: QMError?
    for isSetting in stages {
      var settings: [String: Tensor] = [:]
      for (index, name) in names.enumerated() {
        guard let tensor = inputs[index] ?? nil, isSetting(index, tensor) else { continue }
        settings[name] = tensor
      }
      guard refusal == nil || !settings.isEmpty else { continue }
      do {
        return try compare(model, names, inputs, settings, data, tolerance)
      } catch let error as QMError {
        refusal = refusal ?? error
      }
    }
    throw refusal ?? QMError.internalFault("no stage was tried")
  }

  private func compare(
    _ model: String, _ names: [String], _ inputs: [Int: Tensor?], _ settings: [String: Tensor],
    _ data: String, _ tolerance: Tolerance
  ) throws -> String? {
    let graph = try DefaultPasses.run(
      on: ONNXReader.read(
        path: model, changes: ONNXChanges(settings: settings.mapValues { .tensor($0) })))
    let loaded = try Model(graph.flattened().program)
    var given: [String: Tensor] = [:]
    for (index, name) in names.enumerated() where settings[name] == nil {
      guard loaded.inputs.contains(where: { $0.name == name }) else { continue }
      guard let tensor = inputs[index] ?? nil else {
        throw QMError.unsupported("input \(index) is not a tensor of the case")
      }
      given[name] = tensor
    }
    let results = try loaded.run(given)
    let expected = try tensors(in: data, "output")
    for (index, output) in graph.outputs.enumerated() {
      guard let tensor = expected[index] ?? nil, let result = results[output.name] else { continue }
      if let difference = difference(of: result, from: tensor, tolerance) {
        return "output '\(output.name)': \(difference)".printable
      }
    }
    return nil
  }

  /// The tensors of files `<kind>_0.pb`, `<kind>_1.pb`, …; nil for one that is absent.
  private func tensors(in folder: String, _ kind: String) throws -> [Int: Tensor?] {
    var tensors: [Int: Tensor?] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasPrefix(kind + "_") && name.hasSuffix(".pb") {
      guard let index = Int(name.dropFirst(kind.count + 1).dropLast(3)) else { continue }
      tensors[index] = try ONNXReader.readTensor(path: "\(folder)/\(name)").tensor
    }
    return tensors
  }

  private func difference(
    of result: Tensor, from expected: Tensor, _ tolerance: Tolerance
  ) -> String? {
    guard result.elementType == expected.elementType else {
      return "found \(result.elementType), expected \(expected.elementType)"
    }
    guard result.shape == expected.shape else {
      return "found extents \(result.shape), expected \(expected.shape)"
    }
    guard expected.elementCount > 0 else { return nil }
    guard expected.elementType.isFloatingPoint else {
      return result.bytes.elementsEqual(expected.bytes) ? nil : "the elements differ"
    }
    let real = Operation.cast(Cast(to: .float64))
    guard let left = try? real.evaluate([result])[0].elements(as: Double.self),
      let right = try? real.evaluate([expected])[0].elements(as: Double.self)
    else { return "the elements cannot be compared" }
    var tolerance = tolerance
    if expected.elementType == .bfloat16 {
      // The expected outputs round every step to 8 bits of significance, ours are rounded once:
      // they may lie two units in the last place apart.
      tolerance.relative = max(tolerance.relative, 0x1p-6)
    }
    for (index, (x, y)) in zip(left, right).enumerated() {
      if x == y || x.isNaN && y.isNaN { continue }
      guard (x - y).magnitude <= tolerance.absolute + tolerance.relative * y.magnitude else {
        return "element \(index) is \(x), expected \(y)"
      }
    }
    return nil
  }
}

/// Hands the cases to workers and counts.
struct Runner {
  let folder: String
  let list: String?
  let isVerbose: Bool
  /// Seconds after which a case hangs.
  private static let patience = 60.0

  private func names() throws -> [String] {
    if let list {
      return try String(contentsOfFile: list, encoding: .utf8)
        .split(whereSeparator: \.isWhitespace).map(String.init)
    }
    var names: [String] = []
    for kind in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      let cases = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(kind)")) ?? []
      for name in cases.sorted()
      where FileManager.default.fileExists(atPath: "\(folder)/\(kind)/\(name)/model.onnx") {
        names.append("\(kind)/\(name)")
      }
    }
    return names
  }

  func run() -> Never {
    do {
      var counts: [Verdict.Kind: Int] = [:]
      var worker: WorkerProcess?
      for name in try names() {
        if worker == nil { worker = try WorkerProcess(folder) }
        let verdict: Verdict
        if let answer = worker?.verdict(on: name, patience: Self.patience) {
          verdict = answer
        } else {
          verdict = Verdict(kind: .crashed, reason: worker?.end() ?? "")
          worker = nil
        }
        counts[verdict.kind, default: 0] += 1
        if isVerbose { print("\(verdict.kind.rawValue) \(name) \(verdict.reason)") }
      }
      _ = worker?.end()
      for kind in Verdict.Kind.allCases { print("\(kind.rawValue): \(counts[kind] ?? 0)") }
      exit((counts[.wrong] ?? 0) + (counts[.crashed] ?? 0) == 0 ? 0 : 1)
    } catch {
      FileHandle.standardError.write(Data("onnx-cases: \(error.localizedDescription)\n".utf8))
      exit(66)
    }
  }
}

/// A worker and the pipes to it.
final class WorkerProcess {
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()

  init(_ folder: String) throws {
    // A worker that is gone is seen by what it answers, not by a signal.
    signal(SIGPIPE, SIG_IGN)
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    if !FileManager.default.fileExists(atPath: "/proc/self/exe") {
      process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
    }
    process.arguments = ["--worker", folder]
    process.standardInput = input
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
  }

  /// - Returns: nil where the worker died or does not answer in time.
  func verdict(on name: String, patience: Double) -> Verdict? {
    let line = Array((name + "\n").utf8)
    guard write(input.fileHandleForWriting.fileDescriptor, line, line.count) == line.count else {
      return nil
    }
    var answer: [UInt8] = []
    let descriptor = output.fileHandleForReading.fileDescriptor
    let end = Date().addingTimeInterval(patience)
    while answer.last != UInt8(ascii: "\n") {
      var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      let left = end.timeIntervalSinceNow
      guard left > 0, Foundation.poll(&poll, 1, Int32(left * 1000) + 1) > 0 else { return nil }
      var bytes = [UInt8](repeating: 0, count: 4096)
      let count = read(descriptor, &bytes, bytes.count)
      guard count > 0 else { return nil }
      answer += bytes.prefix(count)
    }
    let words = String(decoding: answer.dropLast(), as: UTF8.self).split(
      separator: " ", maxSplits: 1)
    guard let kind = words.first.flatMap({ Verdict.Kind(rawValue: String($0)) }) else { return nil }
    return Verdict(kind: kind, reason: words.count > 1 ? String(words[1]) : "")
  }

  /// Ends the worker.
  /// - Returns: how it ended.
  func end() -> String {
    try? input.fileHandleForWriting.close()
    if process.isRunning {
      usleep(100_000)
      if process.isRunning {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        return "no answer in time"
      }
    }
    process.waitUntilExit()
    return "ended by signal or status \(process.terminationStatus)"
  }
}

import Foundation
import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMQuantization
import QMRuntime
import QMTensor

// What conversion makes of networks, as text to compare before and after a change:
//
//   digests FOLDER…
//
// A folder holds networks as `<name>/model.onnx`, with samples in `<name>/calib` and `<name>/eval`
// or in `<name>/io.npz`. Each network is converted at 8, 4 and 2 bits, with samples and without.
// A line names network, bits and activations, then the digests of the structure, of the constants
// and of the outputs over a few samples, and the bytes that structure and constants take in the
// file. Names and metadata may change their words and are in none of them.

/// Samples of a network, all in memory.
struct LoadedSamples: SampleSource {
  var samples: [(name: String, inputs: [String: Tensor])] = []

  var count: Int { samples.count }
  func name(of index: Int) -> String { samples[index].name }
  func inputs(of index: Int) throws(QMError) -> [String: Tensor] { samples[index].inputs }

  /// The samples of a folder; none if there is no such folder.
  init(folder path: String, for graph: Graph, limit: Int = .max) throws {
    guard FileManager.default.fileExists(atPath: path) else { return }
    let folder = try SampleFolder(
      path: path, inputs: graph.inputs.map { .init(graph[$0].name, graph[$0].type) })
    for index in 0..<min(folder.count, limit) {
      samples.append((folder.name(of: index), try folder.inputs(of: index)))
    }
  }

  /// The one sample of an archive of inputs `in:<name>` and outputs `out:<name>`.
  init(archive path: String, for graph: Graph) throws {
    guard FileManager.default.fileExists(atPath: path) else { return }
    let archive = try NPZArchive(path: path)
    var inputs: [String: Tensor] = [:]
    for input in graph.inputs {
      inputs[graph[input].name] = try archive.tensor(named: "in:" + graph[input].name)
    }
    samples = [("io", inputs)]
  }
}

/// The first 16 hexadecimal digits of a SHA-256 digest.
func short(_ digest: Digest) -> String {
  digest.finished().prefix(8).map { String(format: "%02x", $0) }.joined()
}

func contentDigests(_ file: QMFile) throws -> String {
  let container = file.container
  var digests: [Container.Kind: Digest] = [.program: Digest(), .data: Digest()]
  var byteCount = 0
  for section in container.sections where digests[section.kind] != nil {
    let bytes = try container.inflated(section)
    withExtendedLifetime(bytes) { digests[section.kind]?.update(bytes.bytes) }
    byteCount += section.storedByteCount
  }
  return "structure \(short(digests[.program]!)) constants \(short(digests[.data]!)) "
    + "bytes \(byteCount)"
}

func outputDigest(_ file: QMFile, over samples: LoadedSamples) throws -> String {
  guard samples.count > 0 else { return "outputs –" }
  let model = try Model(Program(file))
  var digest = Digest()
  for sample in samples.samples {
    let outputs = try model.run(sample.inputs)
    for port in model.outputs {
      guard let output = outputs[port.name] else { continue }
      withExtendedLifetime(output) { digest.update(UnsafeRawBufferPointer(output.bytes)) }
    }
  }
  return "outputs \(short(digest))"
}

func lines(for folder: URL) -> [String] {
  let name = folder.lastPathComponent
  let graph: Graph
  var fit: LoadedSamples
  var shown: LoadedSamples
  do {
    graph = try ONNXReader.read(path: folder.appending(path: "model.onnx").path)
    fit = try LoadedSamples(folder: folder.appending(path: "calib").path, for: graph)
    shown = try LoadedSamples(folder: folder.appending(path: "eval").path, for: graph, limit: 3)
    if fit.count == 0 {
      fit = try LoadedSamples(archive: folder.appending(path: "io.npz").path, for: graph)
      shown = fit
    }
  } catch {
    return ["\(name): \(error)"]
  }
  var lines: [String] = []
  for bits in [8, 4, 2] {
    for activations in [Recipe.Activations.int8, .dynamic] {
      let start = "\(name) \(bits) \(activations.rawValue)"
      do {
        if activations == .int8, fit.count == 0 { continue }
        let conversion = try Converter(
          recipe: Recipe(weights: .codes(Double(bits)), activations: activations),
          options: Model.Options(threadCount: 2)
        )
        .convert(graph, samples: activations == .int8 ? fit : nil)
        let bytes = try conversion.program.encoded()
        let file = try QMFile(bytes.withUnsafeBytes { try Buffer.copying($0) })
        lines.append(
          "\(start): \(try contentDigests(file)) \(try outputDigest(file, over: shown))")
      } catch {
        lines.append("\(start): \(error)")
      }
    }
  }
  return lines
}

for argument in CommandLine.arguments.dropFirst() {
  let root = URL(fileURLWithPath: argument)
  let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
  for name in names.sorted() {
    let folder = root.appending(path: name)
    guard FileManager.default.fileExists(atPath: folder.appending(path: "model.onnx").path) else {
      continue
    }
    for line in lines(for: folder) { print(line) }
  }
}

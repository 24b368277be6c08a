import Foundation
import NetworkSweep
import QMNumPy
import QMTensor
import QMTestSupport

// Converts and runs networks drawn at random, for a given time:
//
//   sweep SECONDS SEED          seeds from SEED on, in blocks, each block in a process of its own
//   sweep --seeds FIRST COUNT   one block in this process; the number of a seed is printed first
//   sweep --show SEED           the network of a seed
//   sweep --write FILE FIRST COUNT
//                               the networks of seeds that run, and their inputs, for
//                               fixtures/generate/sweep.py
//
// A network that ends the process is a finding, and the sweep goes on behind it. Exits with 1 if
// there are findings.

/// Outcomes of networks.
struct Counts {
  var tried = 0
  var refused = 0
  var notRun = 0
  var ran = 0
  var conversions = 0
  var findings = 0
}

/// Prints a line at once: what stands in a buffer is lost if the process ends.
func printNow(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

func sweepHere(_ seeds: Range<UInt64>) throws {
  for seed in seeds {
    printNow("seed \(seed)")
    let trial = try NetworkTrial(seed: seed)
    for finding in trial.findings { printNow("finding \(seed): \(finding)") }
    switch trial.outcome {
    case .refused(let error): printNow("refused: \(error)")
    case .notRun: printNow("not run")
    case .ran(let conversions): printNow("ran \(conversions)")
    }
  }
}

/// Writes the networks that run, and their inputs, as one archive: `seeds`; `models`, the files one after another,
/// and `model_sizes`; the tensors of all inputs, in the order of the networks' inputs, as `types`
/// (ONNX's numbers), `ranks`, `extents` and `values`, their bytes.
func write(_ seeds: Range<UInt64>, to path: String) throws {
  var (models, values): ([UInt8], [UInt8]) = ([], [])
  var (sizes, types, ranks, extents): ([UInt32], [UInt8], [UInt8], [UInt16]) = ([], [], [], [])
  var seedsThatRun: [UInt64] = []
  for seed in seeds {
    let drawn = try NetworkTrial.network(seed: seed)
    guard (try? NetworkTrial.firstOutput(of: drawn)) != nil else { continue }
    seedsThatRun.append(seed)
    let model = try drawn.network.encoded()
    models += model.bytes
    sizes.append(UInt32(model.count))
    let inputs = try drawn.inputs(sample: 0)
    for (name, type) in drawn.network.inputs {
      guard let tensor = inputs[name] else { continue }
      types.append(UInt8(type.elementType.onnxNumber))
      ranks.append(UInt8(tensor.shape.count))
      extents += tensor.shape.map { UInt16($0) }
      values += withExtendedLifetime(tensor) { Array(tensor.bytes) }
    }
  }
  try NPZArchive.write(
    [
      ("seeds", Tensor([seedsThatRun.count], seedsThatRun)),
      ("models", Tensor([models.count], models)),
      ("model_sizes", Tensor([sizes.count], sizes)), ("types", Tensor([types.count], types)),
      ("ranks", Tensor([ranks.count], ranks)), ("extents", Tensor([extents.count], extents)),
      ("values", Tensor([values.count], values)),
    ], to: path)
}

/// Runs seeds in a child process and adds what it prints.
/// - Returns: the seed to go on with.
func sweepInChild(_ seeds: Range<UInt64>, _ counts: inout Counts) throws -> UInt64 {
  let child = Process()
  child.executableURL = URL(filePath: CommandLine.arguments[0])
  child.arguments = ["--seeds", "\(seeds.lowerBound)", "\(seeds.count)"]
  let pipe = Pipe()
  child.standardOutput = pipe
  child.standardError = FileHandle.nullDevice
  try child.run()
  let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  child.waitUntilExit()
  var last = seeds.lowerBound
  for line in text.split(separator: "\n") {
    if line.hasPrefix("seed ") {
      last = UInt64(line.dropFirst(5)) ?? last
      counts.tried += 1
    } else if line.hasPrefix("refused") {
      counts.refused += 1
    } else if line == "not run" {
      counts.notRun += 1
    } else if line.hasPrefix("ran ") {
      counts.ran += 1
      counts.conversions += Int(line.dropFirst(4)) ?? 0
    } else if line.hasPrefix("finding ") {
      counts.findings += 1
      printNow(String(line))
    }
  }
  if child.terminationStatus != 0 {
    counts.findings += 1
    printNow("finding \(last): the process ended with status \(child.terminationStatus)")
  }
  return last + 1
}

let arguments = CommandLine.arguments.dropFirst()
let numbers = arguments.compactMap { UInt64($0) }
if arguments.first == "--seeds", numbers.count == 2 {
  try sweepHere(numbers[0]..<numbers[0] + numbers[1])
} else if arguments.first == "--show", numbers.count == 1 {
  printNow("\(try NetworkTrial.network(seed: numbers[0]))")
  let trial = try NetworkTrial(seed: numbers[0])
  printNow("\(trial.outcome)\n" + trial.findings.joined(separator: "\n"))
} else if arguments.first == "--write", arguments.count == 4, numbers.count == 2 {
  try write(numbers[0]..<numbers[0] + numbers[1], to: Array(arguments)[1])
} else if numbers.count == 2 {
  let end = Date(timeIntervalSinceNow: Double(numbers[0]))
  var counts = Counts()
  var seed = numbers[1]
  while Date() < end { seed = try sweepInChild(seed..<seed + 200, &counts) }
  printNow(
    "\(counts.tried) networks tried: \(counts.refused) refused, \(counts.notRun) not run, "
      + "\(counts.ran) run with \(counts.conversions) conversions; \(counts.findings) findings")
  exit(counts.findings == 0 ? 0 : 1)
} else {
  printNow(
    "usage: sweep SECONDS SEED | sweep --seeds FIRST COUNT | sweep --show SEED"
      + " | sweep --write FILE FIRST COUNT")
  exit(64)
}

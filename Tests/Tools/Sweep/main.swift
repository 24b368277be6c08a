import Foundation
import NetworkSweep

// Converts and runs networks drawn at random, for a given time:
//
//   sweep SECONDS SEED          seeds from SEED on, in blocks, each block in a process of its own
//   sweep --seeds FIRST COUNT   one block in this process; the number of a seed is printed first
//   sweep --show SEED           the network of a seed
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
  printNow("usage: sweep SECONDS SEED | sweep --seeds FIRST COUNT | sweep --show SEED")
  exit(64)
}

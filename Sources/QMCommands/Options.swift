import ArgumentParser
import Foundation
import QMOperations
import QMQuantization
import QMRuntime

struct ConsoleOptions: ParsableArguments {
  @Flag(help: "Print the result as one JSON object.")
  var json = false

  @Flag(help: "Print no progress and no remarks.")
  var quiet = false
}

struct MachineOptions: ParsableArguments {
  @Option(
    name: .customLong("threads"),
    help: "Threads; 1 unless given, for a conversion one per processor.")
  var givenThreads: Int?
  var threads: Int { givenThreads ?? 1 }
  var conversionThreads: Int {
    givenThreads ?? min(ProcessInfo.processInfo.activeProcessorCount, 1024)
  }

  @Option(
    name: .customLong("kernels"),
    help: ArgumentHelp(
      "Kernels; all give the same bits. One of \(MachineOptions.available) on this machine. "
        + "The variable QM_KERNELS is the default, or else the fastest.",
      valueName: "set"))
  var chosenKernels: KernelSet?

  @Option(
    help: ArgumentHelp(
      "Memory for weights, standard or compact; both give the same bits.", valueName: "form"))
  var memory: Model.Memory = .standard

  private static var available: String {
    KernelSet.available.map(\.rawValue).joined(separator: ", ")
  }

  private static var named: String? {
    let name = ProcessInfo.processInfo.environment["QM_KERNELS"]
    return name == "" ? nil : name
  }

  var kernels: KernelSet {
    chosenKernels ?? MachineOptions.named.flatMap(KernelSet.init(rawValue:)) ?? .best
  }

  var modelOptions: Model.Options {
    Model.Options(threadCount: threads, kernels: kernels, memory: memory)
  }

  func validate() throws {
    guard (1...1024).contains(threads) else {
      throw ValidationError("--threads is 1 to 1024, found \(threads)")
    }
    let name = chosenKernels?.rawValue ?? MachineOptions.named ?? kernels.rawValue
    guard KernelSet.available.contains(where: { $0.rawValue == name }) else {
      throw ValidationError(
        "this machine cannot run the kernels '\(name)'; it has \(MachineOptions.available)")
    }
  }
}

extension KernelSet: ExpressibleByArgument {}
extension WeightMemory: ExpressibleByArgument {}
extension Recipe.Activations: ExpressibleByArgument {}
extension RangeEstimator: ExpressibleByArgument {}

import ArgumentParser
import QMOperations
import QMQuantization
import QMReport
import QMRuntime

/// Options for what a tool prints.
struct ConsoleOptions: ParsableArguments {
  @Flag(help: "Print the result as one JSON object.")
  var json = false

  @Flag(help: "Print no progress and no remarks.")
  var quiet = false
}

/// Options for how networks run.
struct MachineOptions: ParsableArguments {
  @Option(
    name: .customLong("threads"),
    help: "Number of threads. Default: 1; for a conversion, one per processor.")
  var givenThreads: Int?
  var threads: Int { givenThreads ?? 1 }
  var conversionThreads: Int {
    givenThreads ?? min(ProcessInfo.processInfo.activeProcessorCount, 1024)
  }

  @Option(
    name: .customLong("kernels"),
    help: ArgumentHelp(
      "Kernel set; all give the same bits. On this machine: \(MachineOptions.available). "
        + "Default: the environment variable QM_KERNELS, or else the fastest.",
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
      throw ValidationError("--threads \(threads): expected 1 to 1024")
    }
    let name = chosenKernels?.rawValue ?? MachineOptions.named ?? kernels.rawValue
    guard KernelSet.available.contains(where: { $0.rawValue == name }) else {
      throw ValidationError(
        "this machine has no kernel set '\(name)'; choose one of \(MachineOptions.available)")
    }
  }
}

extension KernelSet: ExpressibleByArgument {}
extension WeightMemory: ExpressibleByArgument {}
extension Recipe.Activations: ExpressibleByArgument {}
extension Recipe.Grid: ExpressibleByArgument {}
extension Recipe.Effort: ExpressibleByArgument {}
extension RangeEstimator: ExpressibleByArgument {}

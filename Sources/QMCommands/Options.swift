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
  @Option(help: "Threads of a run.")
  var threads: Int = 1

  @Option(
    help: ArgumentHelp(
      "Kernels; all give the same bits. One of \(KernelSet.available.map(\.rawValue).joined(separator: ", ")) on this machine.",
      valueName: "set"))
  var kernels: KernelSet = .best

  var modelOptions: Model.Options { Model.Options(threadCount: threads, kernels: kernels) }

  func validate() throws {
    guard (1...1024).contains(threads) else {
      throw ValidationError("--threads is 1 to 1024, found \(threads)")
    }
    guard KernelSet.available.contains(kernels) else {
      throw ValidationError(
        "this machine cannot run the kernels '\(kernels.rawValue)'; it has \(KernelSet.available.map(\.rawValue).joined(separator: ", "))")
    }
  }
}

extension KernelSet: ExpressibleByArgument {}
extension Recipe.Activations: ExpressibleByArgument {}

/// `minmax`, `percentile`, `percentile:99.99` or `mse`.
struct RangeOption: ExpressibleByArgument, Sendable {
  let estimator: RangeEstimator

  init?(argument: String) {
    switch argument {
    case "minmax": estimator = .minMax
    case "percentile": estimator = .percentile(99.99)
    case "mse": estimator = .meanSquaredError
    default:
      guard argument.hasPrefix("percentile:"),
        let kept = Float(argument.dropFirst("percentile:".count)), kept > 50, kept <= 100
      else { return nil }
      estimator = .percentile(kept)
    }
  }

  var defaultValueDescription: String { description }

  var description: String {
    switch estimator {
    case .minMax: "minmax"
    case .percentile(let kept): "percentile:\(kept)"
    case .meanSquaredError: "mse"
    }
  }
}

import ArgumentParser
import QMReport
import QMTensor

/// What a result may lose against the float network.
enum AllowedDrop: ExpressibleByArgument, Hashable {
  /// A share of the float network's value: `0.5%`.
  case share(Double)
  /// In the unit of the measure: `0.005`.
  case absolute(Double)
  /// SQNR below that of 8 bits, in dB: `2dB`.
  case decibels(Double)

  init?(argument: String) {
    let unit = ["%", "dB"].first(where: argument.hasSuffix) ?? ""
    guard let number = Double(argument.dropLast(unit.count)), number.isFinite, number >= 0 else {
      return nil
    }
    switch unit {
    case "%": self = .share(number / 100)
    case "dB": self = .decibels(number)
    default: self = .absolute(number)
    }
  }

  /// As the option states it.
  var description: String {
    switch self {
    case .share(let share): "\(Units.significant(100 * share)) %"
    case .absolute(let number): Units.significant(number)
    case .decibels(let decibels): Units.decibels(decibels)
    }
  }
}

/// Options for the user's own measure of quality.
struct MetricOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      A shell command that judges the outputs of a network. It gets a folder of \
      <sample>.<output>.npy as its last argument, and prints a number, or a JSON object with \
      "primary" (a number, or the key of one) and, if it likes, "better" ("higher" or "lower").
      """,
      valueName: "command"))
  var metric: String?

  @Option(
    help: ArgumentHelp(
      "Which values of the metric are better, if it does not say: higher (default) or lower.",
      valueName: "higher|lower"))
  var metricBetter: Metric.Direction?

  @Option(
    help: ArgumentHelp(
      """
      Most that the result may lose: of the metric, a share of its float value (0.5%) or a number; \
      without a metric, rows whose highest score changes (0.5% or 0.005) or, where rows are not \
      scores of classes, error power over signal power (1%) or dB of SQNR below 8 bits (2 or 2dB).
      """,
      valueName: "loss"))
  var maxDrop: AllowedDrop?

  /// The metric, if there is one.
  var command: Metric? { metric.map { Metric(command: $0, stated: metricBetter) } }

  func validate() throws {
    if metricBetter != nil, metric == nil {
      throw ValidationError("--metric-better needs --metric")
    }
    if metric?.allSatisfy(\.isWhitespace) == true {
      throw ValidationError("--metric is empty; expected a shell command")
    }
    if case .decibels = maxDrop, metric != nil {
      throw ValidationError("--max-drop in dB is of SQNR; leave out --metric, or the unit")
    }
  }
}

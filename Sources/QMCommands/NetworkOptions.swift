import ArgumentParser
import QMFormat
import QMONNX
import QMTensor

/// Where a network is cut, and what is set in it.
struct NetworkOptions: ParsableArguments {
  @Option(
    name: .customLong("output"),
    help: ArgumentHelp(
      "Cut the network: this value is an output, in the place of its own; repeat it for several.",
      valueName: "name"))
  var outputs: [String] = []

  @Option(
    name: .customLong("input"),
    help: ArgumentHelp(
      "Cut the network: this value is an input. Or give an input another shape; a word is a dynamic axis.",
      valueName: "name[=1,3,height,width]"))
  var inputs: [String] = []

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Give an input, or any value, these numbers for good: a condition of If, a sample rate.",
      valueName: "name=value"))
  var settings: [String] = []

  /// Whether the network is taken as it is.
  var isEmpty: Bool { outputs.isEmpty && inputs.isEmpty && settings.isEmpty }

  /// - Throws: `usage` for an option that does not read.
  func changes() throws(QMError) -> ONNXChanges {
    var changes = ONNXChanges(outputs: outputs)
    for argument in inputs { changes.inputs.append(try .init(argument: argument)) }
    for argument in settings {
      guard let mark = argument.lastIndex(of: "="), mark != argument.startIndex else {
        throw .usage("'\(argument.abbreviated)' is no name=value, as --set asks for")
      }
      let name = String(argument[..<mark])
      guard changes.settings[name] == nil else {
        throw .usage("--set gives '\(name.abbreviated)' twice")
      }
      changes.settings[name] = .text(String(argument[argument.index(after: mark)...]))
    }
    return changes
  }

  /// For the recipe that a file keeps: `qverify --reference` cuts the network alike.
  var recipe: [Program.Metadata.Entry] {
    inputs.map { .init("input", $0) } + settings.map { .init("set", $0) }
  }

  /// What made the file `program` of its network.
  static func changes(of program: Program) throws(QMError) -> ONNXChanges {
    var options = NetworkOptions()
    options.inputs = program.metadata.recipe.filter { $0.key == "input" }.map(\.value)
    options.settings = program.metadata.recipe.filter { $0.key == "set" }.map(\.value)
    options.outputs = []
    return try options.changes()
  }
}

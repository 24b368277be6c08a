import ArgumentParser
import QMONNX
import QMQuantization
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

  /// What the options ask for, as a recipe keeps it: `qverify --reference` cuts the network alike.
  var network: Recipe.Network {
    var network = Recipe.Network()
    network.inputs = inputs
    network.outputs = outputs
    network.settings = settings
    return network
  }

  /// The changes that a recipe asks for.
  /// - Throws: `usage` for a text that does not read.
  static func changes(_ network: Recipe.Network) throws(QMError) -> ONNXChanges {
    var changes = ONNXChanges(outputs: network.outputs)
    for argument in network.inputs { changes.inputs.append(try .init(argument: argument)) }
    for argument in network.settings {
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
}

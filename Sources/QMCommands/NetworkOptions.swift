import ArgumentParser
import QMONNX
import QMQuantization
import QMTensor

/// Options that change the inputs of a network.
struct InputOptions: ParsableArguments {
  @Option(
    name: .customLong("input"),
    help: ArgumentHelp(
      "Cut the network: make this value an input. Or change the shape of an input; a word is a "
        + "dynamic axis.",
      valueName: "name[=1,3,height,width]"))
  var inputs: [String] = []

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Give an input, or any value, a constant value, such as a condition of If or a sample rate.",
      valueName: "name=value"))
  var settings: [String] = []

  /// The options as part of a recipe.
  var network: Recipe.Network {
    var network = Recipe.Network()
    network.inputs = inputs
    network.settings = settings
    return network
  }
}

/// Options that cut a network or give values to its inputs.
struct NetworkOptions: ParsableArguments {
  @Option(
    name: .customLong("output"),
    help: ArgumentHelp(
      "Cut the network: make this value an output, instead of its own outputs; may be repeated.",
      valueName: "name"))
  var outputs: [String] = []

  @OptionGroup var inputs: InputOptions

  /// The options as part of a recipe. The file records them, so that `qverify --reference` can cut
  /// the reference in the same way.
  var network: Recipe.Network {
    var network = inputs.network
    network.outputs = outputs
    return network
  }

  /// The changes that a recipe states.
  /// - Throws: `usage` for an invalid text.
  static func changes(_ network: Recipe.Network) throws(QMError) -> ONNXChanges {
    var changes = ONNXChanges(outputs: network.outputs)
    for argument in network.inputs { changes.inputs.append(try .init(argument: argument)) }
    for argument in network.settings {
      guard let mark = argument.lastIndex(of: "="), mark != argument.startIndex else {
        throw .usage("--set '\(argument.abbreviated)': expected name=value")
      }
      let name = String(argument[..<mark])
      guard changes.settings[name] == nil else {
        throw .usage("--set gives '\(name.abbreviated)' two values; leave one out")
      }
      changes.settings[name] = .text(String(argument[argument.index(after: mark)...]))
    }
    return changes
  }
}

import QMFormat
import QMTensor

/// The outputs of a network that are an input of its next step: recurrent states and caches. An app
/// does not read them, so they are judged by what the next step makes of them.
///
/// No field of a file says so. An output is taken as the next state of an input if
/// - both have the same element type and rank, and no axis of two known extents that differ (a cache
///   grows along an axis of unknown extent);
/// - their names are the same but for words of direction or time, and something with a letter is
///   left: `h` and `hn`, `h_0` and `h_n`, `state` and `stateN`, `conv_cache_in` and
///   `conv_cache_out`, `past_key_values.0.key` and `present.0.key`;
/// - it is the only such output of that input, and the input the only one of that output;
/// - the input has an effect on an output that is no state.
public struct States: Sendable, Hashable {
  /// The input of each such output, by name.
  public private(set) var inputs: [String: String] = [:]

  /// No states.
  public init() {}

  /// The states of a network.
  public init(of program: Program) {
    var found: [String: String] = [:]
    for output in program.outputs {
      let type = program.values[output.value].type
      let name = States.withoutDirection(output.name)
      guard name.contains(where: { $0.contains(where: \.isLetter) }) else { continue }
      let matches = program.inputs.filter { input in
        let value = program.values[input]
        return States.withoutDirection(value.name) == name
          && value.type.elementType == type.elementType
          && States.fit(value.type.shape, type.shape)
      }
      guard matches.count == 1 else { continue }
      found[output.name] = program.values[matches[0]].name
    }
    let uses = found.values.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    found = found.filter { uses[$0.value] == 1 }
    let structure = NetworkStructure(program)
    let others = Set(program.outputs.filter { found[$0.name] == nil }.map(\.value))
    for (output, input) in found {
      let isUsed = program.inputs.contains {
        program.values[$0].name == input && structure.reaches($0, others)
      }
      if isUsed { inputs[output] = input }
    }
  }

  /// The inputs of the next step: those of a step with its states in their places; nil if one is
  /// missing.
  func nextInputs(_ inputs: [String: Tensor], _ outputs: [String: Tensor]) -> [String: Tensor]? {
    var next = inputs
    for (output, input) in self.inputs {
      guard let tensor = outputs[output] else { return nil }
      next[input] = tensor
    }
    return next
  }

  private static func fit(_ left: Shape, _ right: Shape) -> Bool {
    left.rank == right.rank
      && zip(left.axes, right.axes).allSatisfy { left, right in
        guard let left = left.extent, let right = right.extent else { return true }
        return left == right
      }
  }

  private static let words: Set<String> = [
    "in", "out", "i", "o", "input", "output", "new", "next", "n", "t", "old", "prev", "previous",
    "past", "present", "current", "updated", "init", "initial", "0",
  ]

  /// The words of a name that do not tell a state from the next one.
  private static func withoutDirection(_ name: String) -> [String] {
    var words: [String] = []
    var last: Character?
    for character in name {
      guard character.isLetter || character.isNumber else {
        last = nil
        continue
      }
      let continues = last.map {
        $0.isNumber == character.isNumber && !($0.isLowercase && character.isUppercase)
      }
      if continues ?? false {
        words[words.count - 1].append(character)
      } else {
        words.append(String(character))
      }
      last = character
    }
    words = words.map { $0.lowercased() }
    // The names of Hugging Face's exporter, and PyTorch's of its recurrent layers.
    if words.starts(with: ["past", "key", "values"]) { words.removeSubrange(1...2) }
    words = words.flatMap { ["hn", "cn"].contains($0) ? [String($0.prefix(1)), "n"] : [$0] }
    return words.filter { !States.words.contains($0) }
  }
}

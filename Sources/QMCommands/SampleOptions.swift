import ArgumentParser
import QMTensor

/// Options for how samples are read.
struct SampleOptions: ParsableArguments {
  @Option(
    name: .customLong("map"),
    help: ArgumentHelp(
      "The samples call an input of the network by another name; may be repeated.",
      valueName: "array=input"))
  var maps: [String] = []

  @Option(help: "Use at most this many samples, spread evenly over all.")
  var limitSamples: Int?

  func validate() throws {
    if let limitSamples, limitSamples < 1 {
      throw ValidationError("--limit-samples \(limitSamples): expected at least 1")
    }
  }

  /// The inputs with the names that their arrays have.
  /// - Throws: `usage` if a mapping is not `array=input` or names no input, or one that is mapped
  ///   already.
  func named(_ inputs: [SampleInput]) throws(QMError) -> [SampleInput] {
    var inputs = inputs
    for map in maps {
      // The name of an input may contain the mark too.
      let place = map.indices.lazy.filter { map[$0] == "=" }.compactMap { mark -> (Int, String)? in
        let name = map[map.index(after: mark)...]
        guard mark != map.startIndex, let place = inputs.firstIndex(where: { $0.name == name })
        else { return nil }
        return (place, String(map[..<mark]))
      }.first
      guard let (place, array) = place else {
        throw .usage(
          "--map '\(map.abbreviated)': expected array=input with one of the inputs "
            + inputs.map(\.name).listed)
      }
      let input = inputs[place]
      guard input.arrayName == input.name else {
        throw .usage("--map names input '\(input.name.abbreviated)' twice; leave one out")
      }
      inputs[place] = SampleInput(input.name, input.type, arrayName: array)
    }
    return inputs
  }
}

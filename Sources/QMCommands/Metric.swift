import ArgumentParser
import QMNumPy
import QMReport
import QMRuntime
import QMTensor

/// The user's own measure of quality: a command that gets a folder of outputs and prints a number.
struct Metric {
  /// Which values are better.
  enum Direction: String, ExpressibleByArgument { case higher, lower }

  /// What the command said of a network.
  struct Value: Hashable {
    let number: Double
    let better: Direction
    /// The metric's name for the number; nil if it has none.
    let name: String?

    /// How much worse this value is than that of the float network; NaN if one of them is.
    func loss(against float: Value) -> Double {
      better == .higher ? float.number - number : number - float.number
    }
  }

  /// For the shell.
  let command: String
  /// What the user says of the direction.
  let stated: Direction?

  /// Most that may be lost, as a number; nil if anything may.
  /// - Throws: `invalidInput` if the float network has no value; `usage` for a share of 0.
  func limit(_ allowed: AllowedDrop?, _ float: Value) throws(QMError) -> Double? {
    guard float.number.isFinite else { throw failure("gives the float network no finite value") }
    switch allowed {
    case .share(let share):
      guard float.number != 0 else {
        throw .usage(
          "--max-drop is a share of the float network's metric, which is 0; give a number")
      }
      return share * abs(float.number)
    case .absolute(let number): return number
    case .decibels, nil: return nil
    }
  }

  /// Runs a network on samples, writes its outputs to a folder, and calls the command with it.
  /// - Parameter indices: of the samples.
  /// - Throws: errors of runs; `cannotWrite`; `invalidInput` if the command fails or prints something
  ///   else than a metric does.
  func value(
    of network: Model, on samples: any SampleSource, at indices: [Int], _ console: Console
  ) throws(QMError) -> Value {
    let folder = try Process.TemporaryFolder()
    let results = try ResultFolder(
      path: folder.path("outputs"), outputs: network.outputs.map(\.name))
    try samples.run(network, at: indices, console) { (name, outputs) throws(QMError) in
      try results.write(outputs, stem: name)
    }
    console.progress("running the metric")
    return try call(results.path, in: folder)
  }

  private func call(_ outputs: String, in folder: Process.TemporaryFolder) throws(QMError) -> Value
  {
    let (printed, complaints) = (folder.path("printed"), folder.path("complaints"))
    let status = try Process.runShell(
      "\(command) \"$1\"", argument: outputs, output: printed, errors: complaints)
    func text(_ path: String) -> String {
      FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
    guard status == 0 else {
      let last = text(complaints).split(separator: "\n").last { !$0.allSatisfy(\.isWhitespace) }
      throw failure("ended with status \(status)" + (last.map { ": \($0)" } ?? ""))
    }
    return try value(printed: text(printed))
  }

  /// What a text of the command says.
  private func value(printed text: String) throws(QMError) -> Value {
    let words = text.split(whereSeparator: \.isWhitespace)
    if words.count == 1, let number = Double(words[0]) {
      return Value(number: number, better: stated ?? .higher, name: nil)
    }
    guard
      let fields = try? JSONDecoder().decode(
        [String: Field].self, from: Data(Metric.standard(text).utf8))
    else {
      throw failure(
        "printed '\(words.joined(separator: " ").abbreviated)'; expected a number or a JSON object")
    }
    var name: String?
    var found = fields["primary"]
    if case .text(let key) = found { (name, found) = (key, fields[key]) }
    guard case .number(let number) = found else {
      throw failure(
        name.map { "printed no number '\($0.abbreviated)', which \"primary\" names" }
          ?? "printed a JSON object without a number \"primary\"")
    }
    var better = stated ?? .higher
    if let word = fields["better"] {
      guard case .text(let word) = word, let direction = Direction(rawValue: word) else {
        throw failure("printed another \"better\" than \"higher\" or \"lower\"")
      }
      better = direction
    }
    return Value(number: number, better: better, name: name)
  }

  /// A field of the JSON object.
  private enum Field: Decodable {
    case number(Double)
    case text(String)
    case other

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        self = .number(.nan)
      } else if let number = try? container.decode(Double.self) {
        self = .number(number)
      } else {
        self = (try? container.decode(String.self)).map(Field.text) ?? .other
      }
    }
  }

  /// Python writes NaN where JSON has null.
  private static func standard(_ text: String) -> String {
    text.replacing(/:\s*NaN\b/, with: ": null")
  }

  private func failure(_ words: String) -> QMError {
    .invalidInput("--metric '\(command.abbreviated)' \(words)")
  }
}

extension SampleSource {
  /// Runs a network on some of the samples.
  /// - Parameter take: receives the outputs of each sample, with its name.
  func run(
    _ network: Model, at indices: [Int], _ console: Console,
    take: (_ name: String, _ outputs: [String: Tensor]) throws(QMError) -> Void
  ) throws(QMError) {
    let session = Session(network)
    for (step, index) in indices.enumerated() {
      let tensors = try within(.sample(name(of: index))) { () throws(QMError) in
        try session.run(inputs(of: index))
      }
      for part in try results(tensors, of: index) { try take(part.name, part.outputs) }
      console.progress("running", done: step + 1, of: indices.count)
    }
  }

  /// The outputs of a sample of this source, or, if it is a batch of several, of each.
  func results(
    _ tensors: [String: Tensor], of index: Int
  ) throws(QMError) -> [(name: String, outputs: [String: Tensor])] {
    try (self as? SampleBatches)?.outputs(tensors, of: index) ?? [(name(of: index), tensors)]
  }
}

import QMFormat
import QMGraph
import QMONNX
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport

/// What became of the network of one seed: read, run, converted in several ways, encoded, decoded,
/// and run on the fastest kernels and on the reference loops.
public struct NetworkTrial {
  /// How far a network came.
  public enum Outcome: Sendable {
    /// Reading it is an error.
    case refused(QMError)
    /// It is read, but its float form does not run on these inputs.
    case notRun
    /// It runs in float; this many conversions were made.
    case ran(conversions: Int)
  }

  public private(set) var outcome: Outcome
  /// What must not happen, one line each.
  public private(set) var findings: [String] = []
  /// The network, for a report.
  public let network: RandomNetwork

  private static let sampleCount = 4

  /// Tries the network of a seed.
  public init(seed: UInt64) throws {
    try self.init(NetworkTrial.network(seed: seed), seed: seed)
  }

  /// Tries a network as that of a seed.
  public init(_ network: RandomNetwork, seed: UInt64) throws {
    self.network = network
    let graph: Graph
    do {
      graph = try ONNXReader.read(bytes: network.network.encoded())
    } catch {
      outcome = .refused(error)
      if error.code == .internalFault { findings.append("reading: \(error)") }
      return
    }
    outcome = .notRun
    var samples: [[String: Tensor]] = []
    do {
      let program = try DefaultPasses.run(on: graph).flattened().program
      guard try compareKernels(of: program, "float") else { return }
      try comparePasses(of: graph, with: program)
      // Where data decides a branch or an extent, the network may not run on every sample.
      let session = Session(try Model(program))
      for sample in 0..<NetworkTrial.sampleCount {
        let inputs = try network.inputs(sample: sample)
        if (try? session.run(inputs)) != nil { samples.append(inputs) }
      }
    } catch {
      if error.code == .internalFault || error.code == .malformed {
        findings.append("passes: \(error)")
      }
      return
    }
    var conversions = 0
    for bits in [8, 4] {
      for isSampled in [true, false] {
        let what = "\(bits) bits \(isSampled ? "with" : "without") samples"
        do {
          if try convert(graph, bits: bits, over: isSampled ? samples : [], seed: seed, what) {
            conversions += 1
          }
        } catch {
          let codes: [QMError.Code] = [
            .unsupported, .invalidInput, .qualityTooLow, .usage, .outOfMemory,
          ]
          // Another sample's extents may contradict the operators.
          let mayContradict = error.code == .malformed && !network.isFixed
          if !codes.contains(error.code), !mayContradict { findings.append("\(what): \(error)") }
        }
      }
    }
    outcome = .ran(conversions: conversions)
  }

  /// The network of a seed.
  public static func network(seed: UInt64) throws -> RandomNetwork {
    try NetworkGenerator.network(seed: seed) { try? firstOutput(of: $0) }
  }

  /// The first output of a network that runs in float.
  /// - Throws: what reading or running it throws.
  public static func firstOutput(of drawn: RandomNetwork) throws(QMError) -> Tensor? {
    let graph = try ONNXReader.read(bytes: drawn.network.encoded())
    let model = try Model(DefaultPasses.run(on: graph).flattened().program)
    return try model.run(drawn.inputs(sample: 0))[model.outputs[0].name]
  }

  private mutating func convert(
    _ graph: Graph, bits: Int, over samples: [[String: Tensor]], seed: UInt64, _ what: String
  ) throws(QMError) -> Bool {
    guard let width = BitWidth(bits) else { return false }
    var recipe = Recipe(weights: .codes(Double(width.bits)))
    recipe.thresholds.leastDecibels = 0
    // Half of the networks run on codes wherever they can, whatever the error.
    if seed % 2 == 0 {
      recipe.thresholds.sufficientDecibels = -1000
      recipe.thresholds.sufficientDecibelsOfLogOdds = -1000
    }
    if seed % 3 == 0 { recipe.groupSize = 2 }
    let program = try Converter(recipe: recipe)
      .convert(graph, samples: samples.isEmpty ? nil : TensorSamples(samples)).program
    let decoded: Program
    do {
      let bytes = try program.encoded()
      decoded = try bytes.withUnsafeBytes { (bytes) throws(QMError) in
        try Program(decoding: Buffer.copying(bytes))
      }
    } catch {
      findings.append("\(what): the file cannot be read: \(error)")
      return true
    }
    if decoded != program { findings.append("\(what): the decoded program differs") }
    if try !compareKernels(of: decoded, what) {
      findings.append("\(what): the program does not run, the float network does")
    }
    return true
  }

  /// Compares the graph as it was read with the graph after the passes, which may round otherwise.
  private mutating func comparePasses(
    of graph: Graph, with program: Program
  ) throws(QMError) {
    let inputs = try network.inputs(sample: 0)
    let expected: [String: Tensor]
    do {
      expected = try Model(graph.flattened().program).run(inputs)
    } catch {
      // A pass may drop a step that cannot divide the elements of an empty value.
      if !network.shapes.values.joined().contains(0) {
        findings.append("passes: only the graph after them runs: \(error)")
      }
      return
    }
    let found = try Model(program).run(inputs)
    for (name, exact) in expected {
      guard let tensor = found[name] else { continue }
      guard tensor.shape == exact.shape, tensor.elementType == exact.elementType else {
        findings.append("passes: output '\(name)': found \(tensor), expected \(exact)")
        continue
      }
      guard exact.elementType == .float32 else {
        if let difference = firstDifference(tensor, exact) {
          findings.append("passes: output '\(name)': \(difference)")
        }
        continue
      }
      let (left, right) = (tensor.elements(as: Float.self), exact.elements(as: Float.self))
      let largest = right.filter(\.isFinite).map(abs).max() ?? 0
      for (left, right) in zip(left, right) {
        let isEqual = left == right || left.isNaN && right.isNaN
        guard !isEqual, !(abs(left - right) <= 1e-4 * max(largest, 1)) else { continue }
        findings.append("passes: output '\(name)': found \(left), expected \(right)")
        break
      }
    }
  }

  /// Runs a program on the fastest kernels and on the reference loops.
  /// - Returns: whether it runs.
  private mutating func compareKernels(of program: Program, _ what: String) throws(QMError) -> Bool
  {
    let inputs = try network.inputs(sample: 0)
    var results: [Result<[String: Tensor], QMError>] = []
    for kernels in [KernelSet.best, .reference] {
      results.append(
        Result { () throws(QMError) in
          try Model(program, options: Model.Options(kernels: kernels)).run(inputs)
        })
    }
    switch (results[0], results[1]) {
    case (.success(let fast), .success(let exact)):
      for (name, tensor) in exact {
        guard let found = fast[name] else { continue }
        if let difference = firstDifference(found, tensor) {
          findings.append("\(what): output '\(name)': \(difference)")
        }
      }
      return true
    case (.failure(let left), .failure(let right)):
      if left != right { findings.append("\(what): \(left), reference: \(right)") }
      // Extents that only the run knows may contradict the operators; fixed ones were checked.
      if left.code == .internalFault || left.code == .malformed && network.isFixed {
        findings.append("\(what): the run: \(left)")
      }
      return false
    case (.failure(let error), .success), (.success, .failure(let error)):
      findings.append("\(what): only one kernel set runs: \(error)")
      return false
    }
  }
}

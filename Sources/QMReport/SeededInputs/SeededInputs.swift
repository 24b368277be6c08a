import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Pseudorandom inputs from a seed, for runs of a network without samples.
///
/// Floats are noise of several spectra (``Noise``). What integers are follows from what the network
/// does with them: indices within a table, numbers that it compares with, lengths, masks.
public struct SeededInputs: Sendable {
  /// The model that the inputs are for.
  public let model: Model
  /// Shapes, and recorded values, with which the model runs.
  private let examples: [[InputExample]]
  private let generator: InputGenerator

  /// Number of kinds of noise; as many consecutive seeds give all of them.
  public static let kindCount = Noise.kindCount

  /// Extents to try for dynamic axes other than the first, in this order: extents that are
  /// divisible by the strides and windows of common networks, then short sequences, then windows of
  /// speech with their context.
  private static let candidates = [
    32, 64, 48, 16, 8, 4, 1, 128, 224, 256, 320, 512, 1024, 16000, 576, 288,
  ]
  /// Largest product of the guessed extents of one input.
  private static let largestGuess = 1 << 18
  /// Number of attempts after the first that runs.
  private static let furtherAttempts = 2

  /// Searches for input shapes that the model runs with, in this order:
  /// - the shapes of the sample that the file records (``InputExample``);
  /// - extent 1 for a dynamic first axis, which is mostly the batch, and for axes of the same name,
  ///   with one of a few extents for the other dynamic axes;
  /// - the same with extent 1 for all dynamic axes of inputs other than the first, which are mostly
  ///   states;
  /// - the same with small counts for integers whose use is not known.
  ///
  /// - Parameter isVaried: whether seeds have different extents of dynamic axes, if the model runs
  ///   with several.
  /// - Throws: the error of the first attempt, if none runs.
  public init(_ model: Model, isVaried: Bool = false) throws(QMError) {
    self.model = model
    let session = Session(model)
    var failure: QMError?
    let recorded = model.inputs.map { InputExample(of: $0, in: model.signature.metadata) }
    var tried = recorded.contains { $0 == nil } ? [] : [recorded.compactMap { $0 }]
    // The first axis of a recurrent network may be time.
    for hasBatch in isVaried && model.program.hasRecurrentLayers ? [false, true] : [true] {
      for inputCount in [model.inputs.count, 1] {
        tried += SeededInputs.candidates.compactMap {
          SeededInputs.examples(model, $0, dynamicInputCount: inputCount, hasBatch: hasBatch)
        }
      }
    }
    // Without a dynamic axis every candidate is the same, and with some, many are.
    var seen: Set<[InputExample]> = []
    tried = tried.filter { seen.insert($0).inserted }
    for generator in InputGenerator.all(for: model) {
      var found: [[InputExample]] = []
      var remaining = tried.count
      for examples in tried where remaining > 0 {
        remaining -= 1
        do {
          _ = try session.run(generator.tensors(examples, seed: 0))
          if found.isEmpty { remaining = isVaried ? SeededInputs.furtherAttempts : 0 }
          found.append(examples)
        } catch {
          // Other shapes would do, and be others than on a machine with more memory.
          guard !error.isLackOfMemory else { throw error }
          if failure == nil { failure = error }
        }
      }
      guard found.isEmpty else {
        (self.examples, self.generator) = (found, generator)
        return
      }
    }
    throw failure ?? .internalFault("no shapes were tried")
  }

  /// nil if several axes make an input too large for a guess.
  private static func examples(
    _ model: Model, _ candidate: Int, dynamicInputCount: Int, hasBatch: Bool
  ) -> [InputExample]? {
    let batches = hasBatch ? Set(model.inputs.compactMap(\.type.shape.axes.first)) : []
    let examples = model.inputs.enumerated().map { number, port in
      InputExample(
        shape: port.type.shape.axes.enumerated().map { index, axis in
          let isOne =
            hasBatch && index == 0 || number >= dynamicInputCount
            || axis != .free("") && batches.contains(axis)
          return axis.extent ?? (isOne ? 1 : candidate)
        })
    }
    let isSmall = zip(model.inputs, examples).allSatisfy { port, example in
      let guessed = zip(port.type.shape.axes, example.shape).filter { $0.0.extent == nil }
      return Shape.elementCount(of: guessed.map(\.1)).map { $0 <= largestGuess } ?? false
    }
    return isSmall ? examples : nil
  }

  /// Names of the float inputs that are noise of mean square 1: neither masks nor recurrent states.
  public var noiseInputs: [String] { generator.noiseInputs(examples[0]) }

  /// One sample. The noise of float inputs has mean square 1, that of recurrent states 1/16; values
  /// that the file records are taken as they are.
  /// - Throws: `outOfMemory`; `malformed` if a shape is too large.
  public func tensors(seed: UInt64) throws(QMError) -> [String: Tensor] {
    let turn = Int(clamping: seed) / SeededInputs.kindCount
    return try generator.tensors(examples[turn % examples.count], seed: seed)
  }
}

extension Program {
  fileprivate var hasRecurrentLayers: Bool {
    nodes.contains { if case .recurrent = $0.operation { true } else { false } }
  }
}

/// Makes the tensors of seeded inputs of given shapes.
private struct InputGenerator {
  private let inputs: [Model.Port]
  private let uses: [IntegerUse]
  private let states: Set<String>
  /// Whether integers whose use is not known are small counts, and not lengths or masks.
  private let countsAreSmall: Bool

  /// Elements of one input. Extents are guesses, and several may be large together.
  private static let largestCount = 1 << 26
  private static let amplitudeOfStates: Float = 0.25
  /// Amplitude of noise in integers of 16 bits: that of speech.
  private static let amplitudeOfSound: Float = 3000

  /// The generators to try for a model.
  static func all(for model: Model) -> [InputGenerator] {
    let uses = model.program.inputs.map { IntegerUse(of: $0, in: model) }
    let isUnknown = zip(model.inputs, uses).contains {
      $0.type.elementType != .float32 && $1 == .unknown
    }
    return (isUnknown ? [false, true] : [false]).map {
      InputGenerator(
        inputs: model.inputs, uses: uses, states: Set(States(of: model.program).inputs.values),
        countsAreSmall: $0)
    }
  }

  func noiseInputs(_ examples: [InputExample]) -> [String] {
    inputs.indices.filter {
      inputs[$0].type.elementType == .float32 && !isMask($0, examples)
        && !states.contains(inputs[$0].name)
    }.map { inputs[$0].name }
  }

  func tensors(_ examples: [InputExample], seed: UInt64) throws(QMError) -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (index, (port, example)) in zip(inputs, examples).enumerated() {
      guard let count = Shape.elementCount(of: example.shape),
        count <= InputGenerator.largestCount
      else {
        throw .malformed("shape \(example.shape) is too large")
      }
      if let tensor = try example.tensor(port.type.elementType) {
        tensors[port.name] = tensor
        continue
      }
      var random = RandomNumbers(seed: seed, stream: index)
      if isMask(index, examples) {
        tensors[port.name] = try Tensor(
          example.shape, [Int32](repeating: 1, count: count)
        ).converted(to: port.type.elementType)
      } else if port.type.elementType == .float32 {
        var noise = Noise(kind: Int(seed % UInt64(Noise.kindCount)))
          .numbers(example.shape, &random)
        if states.contains(port.name) {
          for place in noise.indices { noise[place] *= InputGenerator.amplitudeOfStates }
        }
        tensors[port.name] = try Tensor(example.shape, noise)
      } else {
        tensors[port.name] = try integers(index, examples, count, seed, &random)
          .converted(to: port.type.elementType)
      }
    }
    return tensors
  }

  /// Whether all elements of an input are 1: it is called a mask, or it is integers of the shape of
  /// indices.
  private func isMask(_ index: Int, _ examples: [InputExample]) -> Bool {
    guard !countsAreSmall, uses[index] == .unknown, examples[index].shape.count > 1 else {
      return false
    }
    if inputs[index].name.lowercased().contains("mask") { return true }
    guard [.int32, .int64].contains(inputs[index].type.elementType) else { return false }
    return uses.indices.contains {
      if case .indices = uses[$0] {
        examples[$0].shape == examples[index].shape
      } else {
        false
      }
    }
  }

  /// Numbers for an input that is no float and no mask, before their conversion to its type.
  private func integers(
    _ index: Int, _ examples: [InputExample], _ count: Int, _ seed: UInt64,
    _ random: inout RandomNumbers
  ) throws(QMError) -> Tensor {
    let shape = examples[index].shape
    switch uses[index] {
    case .indices(let bound):
      return try Tensor(shape, (0..<count).map { _ in Int64(random.next(below: bound)) })
    case .choice(let numbers):
      let number = numbers[Int(seed % UInt64(numbers.count))]
      return try Tensor(shape, [Int64](repeating: number, count: count))
    case .unknown: break
    }
    let noise = Noise(kind: Int(seed % UInt64(Noise.kindCount)))
    switch inputs[index].type.elementType {
    case .bool:
      return try Tensor(shape, (0..<count).map { _ in Int64(random.next(below: 2)) })
    case .uint8, .int8:
      let low: Float = inputs[index].type.elementType == .uint8 ? 0 : -128
      return try Tensor(
        shape,
        noise.numbers(shape, &random).map {
          min(max((low + 128 + $0 * 50).rounded(.towardZero), low), low + 255)
        })
    case .int16, .uint16:
      return try Tensor(
        shape,
        noise.numbers(shape, &random).map {
          let sound = ($0 * InputGenerator.amplitudeOfSound).rounded(.towardZero)
          return inputs[index].type.elementType == .int16 ? sound : abs(sound)
        })
    default: break
    }
    if !countsAreSmall, shape.dropFirst().allSatisfy({ $0 == 1 }) {
      // A length: at most the longest axis of the other inputs.
      let others = examples.indices.filter { $0 != index }
      if let longest = others.flatMap({ examples[$0].shape.dropFirst() }).max(), longest > 1 {
        let shortest = seed % 2 == 0 ? longest : longest - longest / 2
        return try Tensor(
          shape,
          (0..<count).map { _ in
            Int64(shortest + random.next(below: longest - shortest + 1))
          })
      }
    }
    return try Tensor(
      shape, (0..<count).map { _ in Int64(abs(random.nextNormal().rounded(.towardZero))) })
  }
}

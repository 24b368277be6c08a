import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Pseudorandom inputs from a seed, for checks that run a network without samples.
public struct SeededInputs: Sendable {
  /// The model that the inputs are for.
  public let model: Model
  private let examples: [InputExample]

  /// Extents to try for dynamic axes other than the first, in this order: extents that are
  /// divisible by the strides and windows of common networks, then short sequences, then windows of
  /// speech with their context.
  private static let candidates = [
    32, 64, 48, 16, 8, 4, 1, 128, 224, 256, 320, 512, 1024, 16000, 576, 288,
  ]

  /// Searches for input shapes that the model runs with, in this order:
  /// - the shapes of the sample that the file records (``InputExample``);
  /// - extent 1 for a dynamic first axis, which is mostly the batch, and for axes of the same name,
  ///   with one of a few extents for the other dynamic axes;
  /// - the same with extent 1 for all dynamic axes of inputs other than the first, which are mostly
  ///   states.
  ///
  /// - Throws: the error of the first attempt, if none runs.
  public init(_ model: Model) throws(QMError) {
    self.model = model
    let session = Session(model)
    var failure: QMError?
    let recorded = model.inputs.map { InputExample(of: $0, in: model.signature.metadata) }
    var tried = recorded.contains { $0 == nil } ? [] : [recorded.compactMap { $0 }]
    for inputCount in [model.inputs.count, 1] {
      tried += SeededInputs.candidates.map {
        SeededInputs.examples(model, $0, dynamicInputCount: inputCount)
      }
    }
    // Without a dynamic axis every candidate is the same.
    if model.inputs.allSatisfy({ $0.type.shape.extents != nil }) { tried = [tried[0]] }
    for examples in tried {
      do {
        _ = try session.run(SeededInputs.tensors(model, examples, seed: 0))
        self.examples = examples
        return
      } catch {
        if failure == nil { failure = error }
      }
    }
    throw failure ?? .internalFault("no shapes were tried")
  }

  private static func examples(
    _ model: Model, _ candidate: Int, dynamicInputCount: Int
  ) -> [InputExample] {
    let batches = Set(model.inputs.compactMap(\.type.shape.axes.first))
    return model.inputs.enumerated().map { number, port in
      InputExample(
        shape: port.type.shape.axes.enumerated().map { index, axis in
          let isOne =
            index == 0 || number >= dynamicInputCount || axis != .free("") && batches.contains(axis)
          return axis.extent ?? (isOne ? 1 : candidate)
        })
    }
  }

  /// One sample: normally distributed numbers for floats, small counts for integers, and the
  /// recorded values where the file has them.
  /// - Throws: `outOfMemory`; `malformed` if a shape is too large.
  public func tensors(seed: UInt64) throws(QMError) -> [String: Tensor] {
    try SeededInputs.tensors(model, examples, seed: seed)
  }

  private static func tensors(
    _ model: Model, _ examples: [InputExample], seed: UInt64
  ) throws(QMError) -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (index, (port, example)) in zip(model.inputs, examples).enumerated() {
      let shape = example.shape
      if let tensor = try example.tensor(port.type.elementType) {
        tensors[port.name] = tensor
        continue
      }
      guard let count = Shape.elementCount(of: shape) else {
        throw .malformed("shape \(shape) is too large")
      }
      var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(index)
      let numbers = (0..<count).map { _ in
        // The sum of four uniform numbers approximates a normal distribution of variance 1/3.
        (0..<4).reduce(Float(-2)) { sum, _ in sum + Float(next(&state) >> 40) * 0x1p-24 } * 1.7
      }
      switch port.type.elementType {
      case .float32: tensors[port.name] = try Tensor(shape, numbers)
      case .bool: tensors[port.name] = try Tensor(shape, numbers.map { $0 > 0 })
      default:
        tensors[port.name] = try Tensor(shape, numbers.map { abs($0.rounded(.towardZero)) })
          .converted(to: port.type.elementType)
      }
    }
    return tensors
  }

  /// The next number of the generator SplitMix64.
  private static func next(_ state: inout UInt64) -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

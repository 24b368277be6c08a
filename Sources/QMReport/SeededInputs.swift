import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Inputs made of a seed, for checks that need a run and have no sample.
public struct SeededInputs: Sendable {
  public let model: Model
  /// Extent of each free axis, by the number of the input and of its axis.
  private let extents: [[Int]]

  /// Extents that free axes other than the first are tried with, in this order: what strides and
  /// windows of common networks divide, then what fits in front of short sequences, then windows of
  /// speech with what stands in front of them.
  private static let candidates = [32, 64, 48, 16, 8, 4, 1, 128, 224, 320, 1024, 16000, 576, 288]

  /// Looks for extents that the model runs with: 1 for a free first axis, mostly the batch, and for
  /// axes of its name; then 1 for the free axes of all inputs but the first, mostly states.
  /// - Throws: what the model throws with the first candidate, if no candidate runs.
  public init(_ model: Model) throws(QMError) {
    self.model = model
    let session = Session(model)
    var failure: QMError?
    let batches = Set(model.inputs.compactMap(\.type.shape.axes.first))
    for (inputCount, candidate) in [model.inputs.count, 1].flatMap({ inputCount in
      SeededInputs.candidates.map { (inputCount, $0) }
    }) {
      let extents = model.inputs.enumerated().map { number, port in
        port.type.shape.axes.enumerated().map { index, axis in
          let isOne =
            index == 0 || number >= inputCount || axis != .free("") && batches.contains(axis)
          return axis.extent ?? (isOne ? 1 : candidate)
        }
      }
      do {
        _ = try session.run(SeededInputs.tensors(model, extents, seed: 0))
        self.extents = extents
        return
      } catch {
        if failure == nil { failure = error }
      }
      // Without a free axis every candidate is the same.
      if model.inputs.allSatisfy({ $0.type.shape.extents != nil }) { break }
    }
    throw failure ?? .internalFault("no extents were tried")
  }

  /// One sample: normal numbers for floats, small counts for integers.
  public func tensors(seed: UInt64) throws(QMError) -> [String: Tensor] {
    try SeededInputs.tensors(model, extents, seed: seed)
  }

  private static func tensors(
    _ model: Model, _ extents: [[Int]], seed: UInt64
  ) throws(QMError) -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (index, (port, extents)) in zip(model.inputs, extents).enumerated() {
      guard let count = Shape.elementCount(of: extents) else {
        throw .malformed("extents \(extents) are too many")
      }
      var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(index)
      let numbers = (0..<count).map { _ in
        // The sum of four uniform numbers is near enough to a normal one of variance 1/3.
        (0..<4).reduce(Float(-2)) { sum, _ in sum + Float(next(&state) >> 40) * 0x1p-24 } * 1.7
      }
      switch port.type.elementType {
      case .float32: tensors[port.name] = try Tensor(extents, numbers)
      case .bool: tensors[port.name] = try Tensor(extents, numbers.map { $0 > 0 })
      default:
        tensors[port.name] = try Tensor(extents, numbers.map { abs($0.rounded(.towardZero)) })
          .converted(to: port.type.elementType)
      }
    }
    return tensors
  }

  /// SplitMix64.
  private static func next(_ state: inout UInt64) -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

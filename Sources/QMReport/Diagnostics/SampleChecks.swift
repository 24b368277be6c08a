import QMGraph
import QMOperations
import QMTensor

/// Looks for probable mistakes in samples that are valid, before a conversion uses them.
///
/// Only float32 inputs are checked. Memory grows by a few numbers per sample.
public struct SampleChecks: Sendable {
  /// A probable mistake in one sample or in all of them.
  public struct Remark: Hashable, Sendable {
    /// Name of the sample; nil if the remark is about all samples.
    public let sample: String?
    /// Name of the input; nil if the remark is about all inputs.
    public let input: String?
    /// What looks wrong, and what to do.
    public let text: String
  }

  /// Statistics of one input of one sample.
  private struct Statistics {
    let sample: String
    let least: Float
    let greatest: Float
    let meanSquare: Double
    let elementCount: Int

    var isConstant: Bool { elementCount > 1 && least == greatest }
    var magnitude: Float { max(abs(least), abs(greatest)) }
  }

  private let graph: Graph
  private var sampleCount = 0
  private var statistics: [String: [Statistics]] = [:]

  /// Smallest number of samples from which ranges are representative.
  static let enoughSamples = 8
  /// A sample is an outlier if its largest magnitude is this many times the median of all samples.
  static let outlierFactor: Float = 8
  /// Largest root mean square of the first layer's sums at which its input passes as normalised.
  /// With normalised input it is about 1.
  static let largestNormalSum = 40.0

  /// Checks of samples for a network.
  public init(_ graph: Graph) { self.graph = graph }

  /// Checks one sample.
  public mutating func examine(_ inputs: [String: Tensor], sample: String) {
    sampleCount += 1
    for (name, tensor) in inputs where tensor.elementType == .float32 && tensor.elementCount > 0 {
      statistics[name, default: []].append(
        tensor.withElements(as: Float.self) { elements in
          var (least, greatest, squares) = (elements[0], elements[0], 0.0)
          for element in elements {
            least = min(least, element)
            greatest = max(greatest, element)
            squares += Double(element) * Double(element)
          }
          return Statistics(
            sample: sample, least: least, greatest: greatest,
            meanSquare: squares / Double(elements.count), elementCount: elements.count)
        })
    }
  }

  /// The remarks on all samples so far, by input and sample.
  public var remarks: [Remark] {
    var remarks: [Remark] = []
    if sampleCount < SampleChecks.enoughSamples {
      remarks.append(
        Remark(
          sample: nil, input: nil,
          text:
            "\(sampleCount) \(sampleCount == 1 ? "sample is" : "samples are") few: ranges from "
            + "fewer than \(SampleChecks.enoughSamples) are seldom representative; give more"))
    }
    for input in graph.inputs {
      let name = graph[input].name
      guard let statistics = statistics[name] else { continue }
      remarks += constants(statistics, name) + outliers(statistics, name)
      if let remark = bytes(statistics, input) { remarks.append(remark) }
    }
    return remarks
  }

  private func constants(_ statistics: [Statistics], _ input: String) -> [Remark] {
    let constant = statistics.filter(\.isConstant)
    guard 2 * constant.count > statistics.count, statistics.count > 1 else {
      return constant.map {
        Remark(
          sample: $0.sample, input: input,
          text: "all elements are \($0.least); remove the sample if that is a mistake")
      }
    }
    return [
      Remark(
        sample: nil, input: input,
        text: "constant in \(constant.count) of \(statistics.count) samples, such as "
          + "'\(constant[0].sample.abbreviated)': its range cannot be measured")
    ]
  }

  private func outliers(_ statistics: [Statistics], _ input: String) -> [Remark] {
    guard statistics.count >= SampleChecks.enoughSamples else { return [] }
    let median = statistics.map(\.magnitude).sorted()[statistics.count / 2]
    guard median > 0 else { return [] }
    return statistics.filter { $0.magnitude > SampleChecks.outlierFactor * median }.map {
      Remark(
        sample: $0.sample, input: input,
        text: "has values \($0.least)…\($0.greatest), but half of the samples stay within "
          + "±\(median); remove the sample if that is a mistake")
    }
  }

  // MARK: Bytes for normalised input

  private func bytes(_ statistics: [Statistics], _ input: Graph.ValueID) -> Remark? {
    let least = statistics.reduce(Float.infinity) { min($0, $1.least) }
    let greatest = statistics.reduce(-Float.infinity) { max($0, $1.greatest) }
    guard least >= 0, greatest > 64, greatest <= 255, let gain = firstGain(input) else {
      return nil
    }
    let squares = statistics.reduce(0) { $0 + $1.meanSquare } / Double(statistics.count)
    guard squares.squareRoot() * gain > SampleChecks.largestNormalSum else { return nil }
    return Remark(
      sample: nil, input: graph[input].name,
      text: "values \(least)…\(greatest) look like bytes of an image, but the first layer expects "
        + "normalised input; divide by 255, or scale as in training")
  }

  /// The factor by which the first layer, with the operations before it, increases the root mean
  /// square of its input; nil if the first layer has no weights.
  private func firstGain(_ input: Graph.ValueID) -> Double? {
    var value = input
    var gain = 1.0
    // At most this many operations prepare the input.
    for _ in 0..<8 {
      guard let node = graph.nodes.first(where: { $0.inputs.contains(value) }) else { return nil }
      switch node.operation {
      case .cast: break
      case .binary(let binary):
        guard let other = node.inputs.first(where: { $0 != value }).flatMap({ $0 }),
          let constant = graph[other].constant, constant.elementType == .float32
        else { return nil }
        let size = SampleChecks.rootMeanSquare(constant)
        switch binary.function {
        case .multiply: gain *= size
        case .divide where node.input(0) == value && size > 0: gain /= size
        // A network that subtracts a large mean expects input that is not normalised.
        case .subtract, .add: if size > 16 { return nil }
        default: return nil
        }
      case .convolution, .matrixMultiply:
        guard node.input(ProductOperand.input) == value,
          let weights = node.input(ProductOperand.weights).flatMap({ graph[$0].constant }),
          weights.elementType == .float32, let channels = weights.shape.first, channels > 0
        else { return nil }
        let depth = Double(weights.elementCount / channels)
        return gain * SampleChecks.rootMeanSquare(weights) * depth.squareRoot()
      default:
        let source = node.operation.body.elementSource(operandCount: node.inputs.count)
        guard case .moved(let positions) = source, positions.compactMap(node.input) == [value]
        else { return nil }
      }
      value = node.outputs[0]
    }
    return nil
  }

  private static func rootMeanSquare(_ tensor: Tensor) -> Double {
    let count = Double(max(tensor.elementCount, 1))
    return tensor.withElements(as: Float.self) { elements in
      (elements.reduce(0.0) { $0 + Double($1) * Double($1) } / count).squareRoot()
    }
  }
}

import QMGraph
import QMOperations
import QMTensor

/// Looks at samples before time is spent on them: what is allowed, and still probably a mistake.
///
/// Only float32 inputs are looked at. Memory grows by a few numbers a sample.
public struct SampleChecks: Sendable {
  /// What looks wrong, with one sample or with all of them.
  public struct Remark: Hashable, Sendable {
    /// Name of the sample; nil where it is about all of them.
    public let sample: String?
    /// Name of the input; nil where it is about all of them.
    public let input: String?
    /// What looks wrong, and what to do.
    public let text: String
  }

  /// What is kept of one input of one sample.
  private struct Figures {
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
  private var figures: [String: [Figures]] = [:]

  /// Samples from which on ranges and statistics mean something.
  static let enoughSamples = 8
  /// A sample whose largest magnitude is so many times the middle one of all is an outlier.
  static let outlierFactor: Float = 8
  /// Root mean square of the first layer's sums from which on its input is no normalised one.
  /// Networks sum up normalised input to about 1.
  static let largestNormalSum = 40.0

  /// - Parameter graph: the network that the samples are for.
  public init(_ graph: Graph) { self.graph = graph }

  /// Takes in one sample.
  public mutating func examine(_ inputs: [String: Tensor], sample: String) {
    sampleCount += 1
    for (name, tensor) in inputs where tensor.elementType == .float32 && tensor.elementCount > 0 {
      figures[name, default: []].append(
        tensor.withElements(as: Float.self) { elements in
          var (least, greatest, squares) = (elements[0], elements[0], 0.0)
          for element in elements {
            least = min(least, element)
            greatest = max(greatest, element)
            squares += Double(element) * Double(element)
          }
          return Figures(
            sample: sample, least: least, greatest: greatest,
            meanSquare: squares / Double(elements.count), elementCount: elements.count)
        })
    }
  }

  /// What there is to say, by input and sample.
  public var remarks: [Remark] {
    var remarks: [Remark] = []
    if sampleCount < SampleChecks.enoughSamples {
      remarks.append(
        Remark(
          sample: nil, input: nil,
          text:
            "\(sampleCount) \(sampleCount == 1 ? "sample is" : "samples are") few: ranges learnt "
            + "from fewer than \(SampleChecks.enoughSamples) seldom hold for others"))
    }
    for input in graph.inputs {
      let name = graph[input].name
      guard let figures = figures[name] else { continue }
      remarks += constants(figures, name) + outliers(figures, name)
      if let remark = bytes(figures, input) { remarks.append(remark) }
    }
    return remarks
  }

  private func constants(_ figures: [Figures], _ input: String) -> [Remark] {
    let constant = figures.filter(\.isConstant)
    guard 2 * constant.count > figures.count, figures.count > 1 else {
      return constant.map {
        Remark(sample: $0.sample, input: input, text: "every element is \($0.least)")
      }
    }
    return [
      Remark(
        sample: nil, input: input,
        text: "constant in \(constant.count) of \(figures.count) samples, such as "
          + "'\(constant[0].sample.abbreviated)': nothing can be learnt of it")
    ]
  }

  private func outliers(_ figures: [Figures], _ input: String) -> [Remark] {
    guard figures.count >= SampleChecks.enoughSamples else { return [] }
    let middle = figures.map(\.magnitude).sorted()[figures.count / 2]
    guard middle > 0 else { return [] }
    return figures.filter { $0.magnitude > SampleChecks.outlierFactor * middle }.map {
      Remark(
        sample: $0.sample, input: input,
        text: "holds \($0.least)…\($0.greatest), where half of the samples stay within "
          + "±\(middle)")
    }
  }

  // MARK: Bytes for normalised input

  private func bytes(_ figures: [Figures], _ input: Graph.ValueID) -> Remark? {
    let least = figures.reduce(Float.infinity) { min($0, $1.least) }
    let greatest = figures.reduce(-Float.infinity) { max($0, $1.greatest) }
    guard least >= 0, greatest > 64, greatest <= 255, let gain = firstGain(input) else {
      return nil
    }
    let squares = figures.reduce(0) { $0 + $1.meanSquare } / Double(figures.count)
    guard squares.squareRoot() * gain > SampleChecks.largestNormalSum else { return nil }
    return Remark(
      sample: nil, input: graph[input].name,
      text: "values \(least)…\(greatest) look like bytes of an image, and the first layer expects "
        + "normalised input; divide by 255, or as the network was trained")
  }

  /// By how much the first layer makes the root mean square of its input larger, what stands before
  /// it included; nil where the first layer is none with weights.
  private func firstGain(_ input: Graph.ValueID) -> Double? {
    var value = input
    var gain = 1.0
    // As far as a network may prepare its input.
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
        // A mean that is taken off is preparation that knows what comes.
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

import QMTensor

/// Samples in memory, named by their index.
public struct TensorSamples: SampleSource {
  private let samples: [[String: Tensor]]

  /// - Parameter samples: for each sample, tensors by name of the input.
  public init(_ samples: [[String: Tensor]]) { self.samples = samples }

  public var count: Int { samples.count }
  public func name(of index: Int) -> String { "\(index)" }
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] { samples[index] }
}

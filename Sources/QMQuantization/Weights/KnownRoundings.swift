import QMTensor

/// What roundings of the weight tensors of one network have shown, so that conversions with several
/// numbers of bits measure nothing twice. It does not depend on the number of bits of a conversion.
final class KnownRoundings {
  /// One way to round a tensor.
  struct Rounding: Hashable {
    /// Index of the tensor.
    let tensor: Int
    /// In standard deviations of the weights; nil for codes of a width that the recipe gives.
    let step: Float?
    let granularity: Granularity
    let largestCode: Int32
  }

  /// A measurement of the network's outputs.
  struct Measurement: Hashable {
    let rounding: Rounding
    /// Number of samples.
    let samples: Int
  }

  /// Sizes and errors.
  var choices: [Rounding: BitAllocation.Choice] = [:]
  /// The outputs' error over the error of the tensor's own product; 0 without such an error.
  var ratios: [Measurement: Double] = [:]
  /// The error of each tensor's product without any weight.
  var energies: [Double] = []
}

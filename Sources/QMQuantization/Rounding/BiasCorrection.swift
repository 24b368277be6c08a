import QMGraph
import QMOperations
import QMTensor

/// Corrects the bias of a product so that rounding its weights, and its input windows x to Q(x),
/// does not change the mean of its output:
///
///     bias′[o] = bias[o] + Σ_k w[o, k] · mean(x[k]) − scale[o, k] · code[o, k] · mean(Q(x)[k])
///
/// Source: Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias
/// Correction", section 4.2, equation 17, with the means measured.
package struct BiasCorrection {
  /// The corrected bias.
  /// - Parameters:
  ///   - bias: float32 `[O]`; nil for zeros.
  ///   - weights: float32 `[O, …]`, K elements per output channel.
  ///   - rounded: codes and scales of the weights.
  ///   - means: mean of each element of a window, `[G, K]` for the G groups of a convolution.
  ///   - roundedMeans: the same after rounding the input to its codes; `means` if it is not
  ///     rounded.
  /// - Returns: float32 `[O]`; nil if the means do not fit the weights.
  package static func corrected(
    _ bias: Tensor?, weights: Tensor, rounded: QuantizedTensor, means: [Double],
    roundedMeans: [Double]
  ) throws(QMError) -> Tensor? {
    guard let outputs = weights.shape.first, outputs > 0, weights.elementCount > 0,
      means.count == roundedMeans.count, means.count > 0
    else { return nil }
    let size = weights.elementCount / outputs
    guard means.count % size == 0, outputs % (means.count / size) == 0 else { return nil }
    let scales = rounded.scales.elements(as: Float.self)
    let groups = GroupScales(
      rounded.quantization, shape: weights.shape)
    let outputsOfGroup = outputs / (means.count / size)
    var corrected = bias?.elements(as: Float.self) ?? [Float](repeating: 0, count: outputs)
    guard corrected.count == outputs else { return nil }
    weights.withElements(as: Float.self) { numbers in
      rounded.codes.withElements(as: Int8.self) { codes in
        for output in 0..<outputs {
          func scale(_ index: Int) -> Double {
            Double(scales[groups?.scale(ofCode: index) ?? (scales.count == 1 ? 0 : output)])
          }
          let (first, firstMean) = (output * size, output / outputsOfGroup * size)
          var shift = 0.0
          for index in 0..<size {
            shift +=
              Double(numbers[first + index]) * means[firstMean + index]
              - scale(first + index) * Double(codes[first + index])
              * roundedMeans[firstMean + index]
          }
          corrected[output] = Float(Double(corrected[output]) + shift)
        }
      }
    }
    return try Tensor([outputs], corrected)
  }
}

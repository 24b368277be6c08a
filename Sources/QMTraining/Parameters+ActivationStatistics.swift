import QMOperations
import QMTensor

/// Scales and zero points of activations that follow statistics of their elements.
///
/// The range of an activation is μ − a · u to μ + c · u, with the mean μ and the statistic u of a
/// ``StatisticForm``. a and c are what makes this the converter's range with the means of μ and u over
/// the first micro-batches: a single one is too small a sample, and the elements that a narrow range cuts
/// off are those that matter. Then a and c stay, and μ and u are exponential moving averages over the
/// micro-batches. In the gradient all of them count as constants.
///
/// Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
/// Integer-Arithmetic-Only Inference", section 3.1, for the averages of ranges, which are smooth across
/// many steps.
extension Parameters {
  /// An activation, or several with the same scale and zero point.
  struct FollowingActivation {
    let names: Set<String>
    let initial: QuantizationParameters
    /// Numbers of the network's activations. The statistics are those of the first.
    let places: [Int]
    /// The slot of μ, u, a, c, and the number of micro-batches so far, at most ``settling``.
    let slot: Int
  }

  /// Micro-batches in which the range is the converter's.
  package static let settling = 20
  /// What a moving average keeps of itself.
  private static let smoothing: Float = 0.99

  func addFollowingActivations() throws(QMError) {
    guard quantizer.statistic != nil else { return }
    for (initial, places) in sharedActivations where initial.elementType != .int16 {
      // Products read int16 with the zero point 0 alone.
      let names = places.map { network.activations[$0].name }
      let (values, gradients) = (try floats(5), try floats(5))
      slots.append(
        Slot(
          name: names[0] + ".statistics", kind: .statistics, values: values, gradients: gradients,
          count: 5, unitLength: 5))
      following.append(
        FollowingActivation(
          names: Set(names), initial: initial, places: places, slot: slots.count - 1))
    }
  }

  func parameters(of activation: FollowingActivation) -> QuantizationParameters {
    let numbers = slots[activation.slot].values
    guard let statistic = quantizer.statistic, Int(numbers[4]) >= Parameters.settling else {
      return activation.initial
    }
    return statistic.parameters(
      activation.initial.elementType, mean: Double(numbers[0]), unit: Double(numbers[1]),
      below: Double(numbers[2]), above: Double(numbers[3]))
  }

  /// Lets μ and u follow a micro-batch of training.
  func follow(_ pass: TrainingPass) {
    guard let statistic = quantizer.statistic else { return }
    for activation in following {
      guard let found = pass.activations[activation.places[0]].statistics else { continue }
      pass.activations[activation.places[0]].statistics = nil
      let numbers = slots[activation.slot].values
      let (mean, unit) = (found.mean, statistic.unit(found))
      guard unit > 0, unit.isFinite, mean.isFinite else { continue }
      let count = Int(numbers[4])
      let share = count < Parameters.settling ? 1 / Float(count + 1) : 1 - Parameters.smoothing
      numbers[0] += share * (Float(mean) - numbers[0])
      numbers[1] += share * (Float(unit) - numbers[1])
      guard count < Parameters.settling else { continue }
      numbers[4] += 1
      let grid = RoundingGrid(activation.initial)
      numbers[2] = (numbers[0] - grid.lowest * grid.scale) / numbers[1]
      numbers[3] = (grid.highest * grid.scale - numbers[0]) / numbers[1]
    }
  }
}

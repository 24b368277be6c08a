import QMOperations
import QMTensor

/// Learned scales and offsets of activations.
extension Parameters {
  /// Activations with the same scale and zero point keep them in common: the converter gives the same
  /// ones to values that hold the same codes before and after data movement, and codes of another scale
  /// would have to be rounded again there.
  func addActivations() throws(QMError) {
    guard quantizer.learnsActivations else { return try addFollowingActivations() }
    for (initial, own) in sharedActivations {
      let activation = network.activations[own[0]]
      let scale = try addActivationSlot(activation.name + ".scale", initial.scale)
      // Products read int16 with the zero point 0 alone.
      let offset =
        quantizer == .lsqPlus && initial.elementType != .int16
        ? try addActivationSlot(
          activation.name + ".offset", -Float(initial.zeroPoint) * initial.scale) : nil
      activations.append(
        TrainedActivation(
          names: Set(own.map { network.activations[$0].name }), initial: initial, places: own,
          scale: scale, offset: offset))
    }
  }

  /// Numbers of the activations with the same scale and zero point, in the order of the first.
  var sharedActivations: [(initial: QuantizationParameters, places: [Int])] {
    var places: [QuantizationParameters: [Int]] = [:]
    for (place, activation) in network.activations.enumerated() {
      places[activation.parameters, default: []].append(place)
    }
    return places.map { ($0.key, $0.value) }.sorted { $0.1[0] < $1.1[0] }
  }

  func addActivationSlot(_ name: String, _ value: Float) throws(QMError) -> Int {
    let (values, gradients) = (try floats(1), try floats(1))
    values[0] = value
    slots.append(
      Slot(
        name: name, kind: .scales, values: values, gradients: gradients, count: 1, unitLength: 1,
        weightsPerScale: 1, largestCode: 1))
    return slots.count - 1
  }

  func parameters(of activation: TrainedActivation) -> QuantizationParameters {
    var parameters = activation.initial
    parameters.scale = slots[activation.scale].values[0]
    if let offset = activation.offset {
      parameters.zeroPoint = LearnedOffset.zeroPoint(
        offset: slots[offset].values[0], scale: parameters.scale,
        codes: parameters.elementType.codes ?? -128...127)
    }
    return parameters
  }

  /// How each value whose scale is learned is rounded now, by the name of the value.
  package var activationParameters: [String: QuantizationParameters] {
    var result: [String: QuantizationParameters] = [:]
    for activation in activations {
      for name in activation.names { result[name] = parameters(of: activation) }
    }
    for activation in following {
      for name in activation.names { result[name] = parameters(of: activation) }
    }
    return result
  }

  /// Makes a pass round activations as they are rounded now, before its forward run.
  package func setActivations(of pass: TrainingPass) {
    for activation in activations {
      let parameters = parameters(of: activation)
      for place in activation.places { pass.activations[place].parameters = parameters }
    }
    for activation in following {
      let parameters = parameters(of: activation)
      for place in activation.places { pass.activations[place].parameters = parameters }
    }
  }

  /// Takes over what the backward runs of a pass have found about the rounding of activations.
  /// - Parameter learn: whether it goes into the gradients of scales and offsets.
  package func takeActivationGradients(of pass: TrainingPass, learn: Bool = true) {
    follow(pass)
    for index in activations.indices where learn {
      for place in activations[index].places {
        activations[index].sums += pass.activations[place].sums
      }
    }
    for place in pass.activations.indices {
      let sums = pass.activations[place].sums
      saturation.count += sums.count
      saturation.beyond += sums.beyond
      pass.activations[place].sums = RoundingSums()
    }
  }

  /// Gradients of scales and offsets are divided by √(N · Q), with N the elements of the step and Q the
  /// codes of the positive side.
  ///
  /// Source: Esser et al. 2020, "Learned Step Size Quantization", section 2.2.
  func finishActivationGradients() {
    for index in activations.indices {
      let activation = activations[index]
      let parameters = parameters(of: activation)
      let grid = RoundingGrid(parameters)
      let factor =
        1 / (Double(max(activation.sums.count, 1)) * Double(max(grid.highest, 1))).squareRoot()
      if let offset = activation.offset {
        let gradients = LearnedOffset.gradients(activation.sums, parameters)
        slots[activation.scale].gradients[0] += Float(gradients.scale * factor)
        slots[offset].gradients[0] += Float(gradients.offset * factor)
      } else {
        slots[activation.scale].gradients[0] += Float(
          quantizer.scaleGradient(activation.sums, grid) * factor)
      }
      activations[index].sums = RoundingSums()
    }
  }
}

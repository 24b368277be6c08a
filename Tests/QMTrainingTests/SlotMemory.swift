import QMTraining

/// Parameters outside a network.
final class SlotMemory {
  private(set) var slots: [Parameters.Slot] = []

  /// - Parameter unitLength: numbers of an output unit; nil for all.
  func add(
    _ kind: Parameters.Slot.Kind, _ values: [Float], gradients: [Float], unitLength: Int? = nil
  ) {
    func copy(_ numbers: [Float]) -> Floats {
      let target = Floats.allocate(capacity: max(numbers.count, 1))
      target.initialize(from: numbers, count: numbers.count)
      return target
    }
    slots.append(
      Parameters.Slot(
        name: "slot \(slots.count)", kind: kind, values: copy(values), gradients: copy(gradients),
        count: values.count, unitLength: unitLength ?? values.count))
  }

  /// Weights without values of interest.
  convenience init(gradients: [[Float]]) {
    self.init()
    for gradients in gradients {
      add(.weights, [Float](repeating: 1, count: gradients.count), gradients: gradients)
    }
  }

  init() {}

  deinit {
    for slot in slots {
      slot.values.deallocate()
      slot.gradients.deallocate()
    }
  }

  func setGradients(_ gradients: [[Float]]) {
    for (slot, numbers) in zip(slots, gradients) {
      slot.gradients.update(from: numbers, count: slot.count)
    }
  }

  var values: [[Float]] {
    slots.map { Array(UnsafeBufferPointer(start: $0.values, count: $0.count)) }
  }

  var gradients: [[Float]] {
    slots.map { Array(UnsafeBufferPointer(start: $0.gradients, count: $0.count)) }
  }
}

/// The Euclidean norm.
func norm(_ numbers: [Float]) -> Double {
  numbers.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
}

/// The Euclidean norm of several arrays.
func norm(_ numbers: [[Float]]) -> Double { norm(numbers.flatMap { $0 }) }

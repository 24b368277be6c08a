import Foundation
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct LossTests {
  private static let forms: [OutputLoss.Form] = [
    .relative, .classes(axis: -1), .classes(axis: -2), .probabilities, .scores(axis: -1),
    .scores(axis: -2), .squared,
  ]

  private static let (shape, items) = ([2, 3, 4], 2)

  /// The loss and its gradient.
  private func loss(
    _ loss: OutputLoss, _ output: [Float], _ target: [Float], weight: Float = 1,
    shape: [Int] = shape, items: Int = items
  ) -> (loss: Double, gradient: [Float]) {
    var gradient = [Float](repeating: 0, count: output.count)
    let value = gradient.withUnsafeMutableBufferPointer {
      loss.add(
        output, target, shape: shape, items: items, weight: weight, to: $0.baseAddress!)
    }
    return (value, gradient)
  }

  /// Random numbers that a form may see: probabilities that sum to 1 along the axis of the classes.
  private func numbers(_ form: OutputLoss.Form, _ generator: inout SeededGenerator) throws
    -> [Float]
  {
    var numbers = try generator.tensor(
      Self.shape, in: form.isOfProbabilities ? 0.05...0.95 : -2...2
    ).elements(as: Float.self)
    if case .classes(let axis) = form {
      for row in rows(axis) {
        let sum = row.reduce(0) { $0 + numbers[$1] }
        for index in row { numbers[index] /= sum }
      }
    }
    return numbers
  }

  /// The indices of each row of ``shape`` along an axis counted from the end.
  private func rows(_ axis: Int) -> [[Int]] {
    let (extent, inner) = axis == -1 ? (4, 1) : (3, 4)
    return (0..<24 / extent).map { row in
      let first = row / inner * inner * extent + row % inner
      return (0..<extent).map { first + $0 * inner }
    }
  }

  /// ∂loss/∂output of `classes` holds the sum of the probabilities for no constant; the others are
  /// differences as they are.
  @Test(arguments: forms)
  func gradientsAreDifferences(form: OutputLoss.Form) throws {
    var generator = SeededGenerator(seed: 11)
    for weight: Float in [1, 0.25] {
      let (output, target) = (
        try numbers(form, &generator), try numbers(form, &generator)
      )
      let (_, gradient) = loss(OutputLoss(form), output, target, weight: weight)
      let unit = gradient.map(abs).max() ?? 0
      #expect(unit > 1e-3)
      for index in output.indices {
        func difference(_ step: Float) -> Double {
          var (above, below) = (output, output)
          above[index] += step
          below[index] -= step
          let (high, low) = (
            loss(OutputLoss(form), above, target, weight: weight).loss,
            loss(OutputLoss(form), below, target, weight: weight).loss
          )
          return (high - low) / Double(above[index] - below[index])
        }
        let expected = (4 * difference(0x1p-8) - difference(0x1p-7)) / 3
        let error = (Double(gradient[index]) - expected).magnitude
        #expect(error < 1e-3 * Double(unit), "element \(index): \(gradient[index]), \(expected)")
      }
    }
  }

  @Test(arguments: forms)
  func gradientsAreAdded(form: OutputLoss.Form) throws {
    var generator = SeededGenerator(seed: 12)
    let (output, target) = (try numbers(form, &generator), try numbers(form, &generator))
    let once = loss(OutputLoss(form), output, target).gradient
    var twice = once
    _ = twice.withUnsafeMutableBufferPointer {
      OutputLoss(form).add(
        output, target, shape: Self.shape, items: Self.items, weight: 1, to: $0.baseAddress!)
    }
    #expect(twice == once.map { 2 * $0 })
  }

  @Test(arguments: forms)
  func theTeacherItselfHasNoLoss(form: OutputLoss.Form) throws {
    var generator = SeededGenerator(seed: 13)
    let numbers = try numbers(form, &generator)
    let (value, gradient) = loss(OutputLoss(form), numbers, numbers)
    #expect(value.magnitude < 1e-6)
    guard case .classes = form else {
      #expect(gradient.allSatisfy { abs($0) < 1e-6 })
      return
    }
    // Behind a softmax only differences within a row count.
    #expect(Set(gradient).count == 1)
  }

  @Test(arguments: forms)
  func otherNumbersHaveALoss(form: OutputLoss.Form) throws {
    var generator = SeededGenerator(seed: 14)
    for _ in 0..<20 {
      let (output, target) = (try numbers(form, &generator), try numbers(form, &generator))
      #expect(loss(OutputLoss(form), output, target).loss > 1e-3)
    }
  }

  // MARK: Equations

  @Test(arguments: forms)
  func lossesAreThoseOfTheirEquations(form: OutputLoss.Form) throws {
    var generator = SeededGenerator(seed: 15)
    let (output, target) = (try numbers(form, &generator), try numbers(form, &generator))
    let (y, t) = (output.map(Double.init), target.map(Double.init))
    func softmax(_ numbers: [Double], _ row: [Int]) -> [Double] {
      let sum = row.reduce(0) { $0 + exp(numbers[$1]) }
      return row.map { exp(numbers[$0]) / sum }
    }
    let expected: Double
    switch form {
    case .relative:
      expected = (0..<2).reduce(0) { sum, item in
        let range = item * 12..<(item + 1) * 12
        let error = range.reduce(0) { $0 + (y[$1] - t[$1]) * (y[$1] - t[$1]) }
        return sum + error / range.reduce(0) { $0 + t[$1] * t[$1] }
      }
    case .squared:
      expected = zip(y, t).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / 12
    case .probabilities:
      expected =
        zip(y, t).reduce(0) { sum, pair in
          let (p, t) = pair
          return sum + t * log(t / p) + (1 - t) * log((1 - t) / (1 - p))
        } / 12
    case .classes(let axis):
      let rows = rows(axis)
      expected =
        rows.reduce(0) { $0 + $1.reduce(0) { $0 + t[$1] * log(t[$1] / y[$1]) } }
        / Double(rows.count / Self.items)
    case .scores(let axis):
      let rows = rows(axis)
      expected =
        rows.reduce(0) { sum, row in
          sum + zip(softmax(t, row), softmax(y, row)).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) }
        } / Double(rows.count / Self.items)
    }
    let found = loss(OutputLoss(form), output, target).loss
    #expect((found / expected - 1).magnitude < 1e-5, "\(found), \(expected)")
  }

  @Test func aSilentTargetHasAFiniteLoss() {
    let zeros = [Float](repeating: 0, count: 24)
    let (value, gradient) = loss(OutputLoss(.relative), zeros.map { $0 + 1e-3 }, zeros)
    #expect(value.isFinite && value > 0)
    #expect(gradient.allSatisfy { $0.isFinite })
  }

  @Test func certainProbabilitiesHaveAFiniteLoss() {
    let output: [Float] = (0..<24).map { $0 % 2 == 0 ? 0 : 1 }
    for form in [OutputLoss.Form.probabilities, .classes(axis: -1)] {
      let (value, gradient) = loss(OutputLoss(form), output, output.map { 1 - $0 })
      #expect(value.isFinite && value > 1)
      #expect(gradient.allSatisfy { $0.isFinite })
    }
  }

  // MARK: Labels

  /// −log softmax of the class, the mean over the rows.
  @Test func labelsOfScoresHaveTheirCrossEntropy() throws {
    var generator = SeededGenerator(seed: 16)
    let output = try generator.tensor(Self.shape, in: -3...3).elements(as: Float.self)
    for axis in [-1, -2] {
      let rows = rows(axis)
      let classes = rows.map { _ in Int64.random(in: 0..<(axis == -1 ? 4 : 3), using: &generator) }
      let shape = axis == -1 ? [2, 3] : [2, 4]
      let (labelled, target) = try OutputLoss.labelled(
        .scores(axis: axis), shape: Self.shape, Tensor(shape, classes))
      let found = loss(labelled, output, target.elements(as: Float.self)).loss
      let expected = zip(rows, classes).reduce(0.0) { sum, pair in
        let (row, label) = pair
        let total = row.reduce(0) { $0 + exp(Double(output[$1])) }
        return sum - log(exp(Double(output[row[Int(label)]])) / total)
      }
      #expect(
        (found / (expected / Double(rows.count / Self.items)) - 1).magnitude < 1e-5, "axis \(axis)")
    }
  }

  /// −log of the probability of the class.
  @Test func labelsOfProbabilitiesHaveTheirCrossEntropy() throws {
    let output: [Float] = [0.5, 0.25, 0.25, 0.125, 0.75, 0.125]
    let (labelled, target) = try OutputLoss.labelled(
      .classes(axis: -1), shape: [2, 3], Tensor([2], [Int32(1), 0]))
    #expect(labelled.form == .classes(axis: -1))
    let found = loss(
      labelled, output, target.elements(as: Float.self), shape: [2, 3], items: 2
    ).loss
    #expect((found - log(4.0 * 8)).magnitude < 1e-6)
  }

  @Test func labelsMayHaveAnAxisOfTheClasses() throws {
    let (labelled, target) = try OutputLoss.labelled(
      .relative, shape: [2, 3], Tensor([2, 1], [UInt8(2), 0]))
    #expect(labelled.form == .scores(axis: -1))
    #expect(target.elements(as: Float.self) == [0, 0, 1, 1, 0, 0])
  }

  @Test func numbersAreLabelsToo() throws {
    let (labelled, target) = try OutputLoss.labelled(
      .relative, shape: [2, 3], Tensor([2, 3], [1, 2, 3, 4, 5, 6] as [Double]))
    #expect(labelled.form == .squared)
    #expect(target.elements(as: Float.self) == [1, 2, 3, 4, 5, 6])
    let (binary, bits) = try OutputLoss.labelled(
      .probabilities, shape: [2, 2], Tensor([2, 2], [0, 1, 1, 0] as [UInt8]))
    #expect(binary.form == .probabilities)
    #expect(bits.elements(as: Float.self) == [0, 1, 1, 0])
  }

  @Test(arguments: [-1, 3, Int64.max])
  func classesThatDoNotExistAreInvalid(label: Int64) throws {
    let labels = try Tensor([2], [0, label])
    let error = try #require(throws: QMError.self) {
      try OutputLoss.labelled(.scores(axis: -1), shape: [2, 3], labels)
    }
    #expect(error.code == .invalidInput)
    #expect("\(error)".contains("\(label)"))
  }

  @Test func labelsThatDoNotFitAreInvalid() throws {
    let labels = [
      try Tensor([3], [0, 1, 2] as [Int64]), try Tensor([2], [0, 1] as [Float]),
      try Tensor([2, 2], [0, 1, 1, 0] as [Int64]),
    ]
    for labels in labels {
      let error = try #require(throws: QMError.self) {
        try OutputLoss.labelled(.scores(axis: -1), shape: [2, 3], labels)
      }
      #expect(error.code == .invalidInput, "\(labels)")
    }
  }
}

extension OutputLoss.Form {
  fileprivate var isOfProbabilities: Bool {
    switch self {
    case .classes, .probabilities: true
    default: false
    }
  }
}

@Suite struct ShuffledOrderTests {
  @Test(arguments: [1, 7, 10, 100], [1, 3, 10])
  func eachSampleComesOnceAnEpoch(count: Int, size: Int) {
    let indices = (0..<count).map { 3 * $0 + 5 }
    let order = ShuffledOrder(indices, seed: 1)
    let met = (0..<3 * count).flatMap { order.batch(step: $0, size: size) }
    #expect(met.count == 3 * count * size)
    for epoch in 0..<3 * size {
      #expect(met[epoch * count..<(epoch + 1) * count].sorted() == indices)
    }
  }

  @Test func theSeedAndTheStepDecide() {
    let indices = Array(0..<50)
    let order = ShuffledOrder(indices, seed: 7)
    let later = order.batch(step: 9, size: 8)
    _ = order.batch(step: 3, size: 8)
    #expect(ShuffledOrder(indices, seed: 7).batch(step: 9, size: 8) == later)
    #expect(ShuffledOrder(indices, seed: 8).batch(step: 9, size: 8) != later)
    let epochs = (0..<2).map { order.batch(step: $0, size: 50) }
    #expect(epochs[0] != epochs[1] && epochs[0] != indices)
  }

  @Test func noSamplesGiveNone() {
    #expect(ShuffledOrder([], seed: 0).batch(step: 4, size: 3) == [])
  }
}

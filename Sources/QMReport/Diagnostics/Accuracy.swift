import QMTensor

/// The accuracy of a classifier.
public struct Accuracy: Sendable, Hashable {
  /// Number of items with a label.
  public private(set) var itemCount = 0
  /// Number of items whose highest score is at their label.
  public private(set) var rightCount = 0

  /// An accuracy of no items yet.
  public init() {}

  /// Fraction of the items that are classified correctly, 0 to 1; 0 if there are none.
  public var share: Double { itemCount == 0 ? 0 : Double(rightCount) / Double(itemCount) }

  /// Adds one sample.
  /// - Parameters:
  ///   - scores: `[…, classes]`, one row per item.
  ///   - labels: the correct class of each item.
  /// - Throws: `invalidInput` if the numbers of rows and labels differ.
  public mutating func add(_ scores: Tensor, labels: [Int]) throws(QMError) {
    let length = scores.shape.last ?? 0
    guard length > 0, scores.elementCount == length * labels.count else {
      throw .invalidInput(
        "\(labels.count) labels do not fit scores of shape \(scores.shape); give one label per row")
    }
    let numbers = try scores.converted(to: .float32).elements(as: Float.self)
    for (row, label) in labels.enumerated() {
      let range = row * length..<(row + 1) * length
      var best = range.lowerBound
      for index in range where numbers[index] > numbers[best] { best = index }
      itemCount += 1
      if best - range.lowerBound == label { rightCount += 1 }
    }
  }
}

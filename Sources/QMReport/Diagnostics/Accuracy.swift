import QMTensor

/// How many items a classifier gets right.
public struct Accuracy: Sendable, Hashable {
  /// Items that have a label.
  public private(set) var itemCount = 0
  /// Items whose highest score is at their label.
  public private(set) var rightCount = 0

  /// Of no items.
  public init() {}

  /// Share of the items that are right, 0 to 1; 0 where there are none.
  public var share: Double { itemCount == 0 ? 0 : Double(rightCount) / Double(itemCount) }

  /// Adds one sample.
  /// - Parameters:
  ///   - scores: one row per item, along the last axis.
  ///   - labels: the right class of each item.
  /// - Throws: `invalidInput` if there are not as many rows as labels.
  public mutating func add(_ scores: Tensor, labels: [Int]) throws(QMError) {
    let length = scores.shape.last ?? 0
    guard length > 0, scores.elementCount == length * labels.count else {
      throw .invalidInput(
        "\(labels.count) labels do not fit scores of shape \(scores.shape), a row for each")
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

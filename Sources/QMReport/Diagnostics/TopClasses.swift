import QMTensor

/// The class with the highest score in each row of some outputs, to compare two networks without
/// keeping their outputs.
public struct TopClasses: Sendable, Hashable {
  /// By the name of the output: the index of each row's highest score.
  private var classes: [String: [Int]] = [:]

  /// Of no outputs yet.
  public init() {}

  /// Number of rows of all outputs.
  public var rowCount: Int { classes.values.reduce(0) { $0 + $1.count } }

  /// Adds an output of one sample.
  /// - Parameters:
  ///   - scores: `[…, classes]`, one row per item.
  ///   - name: of the output.
  public mutating func add(_ scores: Tensor, of name: String) throws(QMError) {
    let length = scores.shape.last ?? 0
    guard length > 0 else { return }
    let numbers = try scores.converted(to: .float32).elements(as: Float.self)
    for start in stride(from: 0, to: numbers.count - length + 1, by: length) {
      var best = start
      for index in start..<start + length where numbers[index] > numbers[best] { best = index }
      classes[name, default: []].append(best - start)
    }
  }

  /// Share of the rows that have another class than those of a reference, 0 to 1: of the output with
  /// the most; NaN if the numbers of rows differ.
  public func loss(against reference: TopClasses) -> Double {
    var worst = 0.0
    for (name, expected) in reference.classes where !expected.isEmpty {
      let found = classes[name] ?? []
      guard found.count == expected.count else { return .nan }
      let count = zip(found, expected).count { $0 != $1 }
      worst = max(worst, Double(count) / Double(expected.count))
    }
    return worst
  }
}

import QMReport
import QMTensor
import Testing

@Suite("Classes with the highest scores") struct TopClassesTests {
  private func classes(_ rows: [[Float]], _ name: String = "y") throws -> TopClasses {
    var classes = TopClasses()
    for row in rows { try classes.add(Tensor([1, row.count], row), of: name) }
    return classes
  }

  @Test func otherClassesAreALoss() throws {
    let reference = try classes([[1, 2, 3], [3, 2, 1], [5, 5, 0], [0, 1, 0]])
    #expect(reference.rowCount == 4)
    // Of equal scores the first counts.
    let other = try classes([[0, 0, 1], [0, 9, 1], [7, 1, 1], [2, 1, 0]])
    #expect(other.loss(against: reference) == 0.5)
    #expect(reference.loss(against: reference) == 0)
  }

  @Test func theWorstOutputCounts() throws {
    var (reference, other) = (try classes([[1, 0], [1, 0]]), try classes([[1, 0], [1, 0]]))
    try reference.add(Tensor([2, 2], [1, 0, 0, 1] as [Float]), of: "z")
    try other.add(Tensor([2, 2], [1, 0, 1, 0] as [Float]), of: "z")
    #expect(other.loss(against: reference) == 0.5)
  }

  @Test func otherNumbersOfRowsAreNoNumber() throws {
    #expect(try classes([[1, 0]]).loss(against: classes([[1, 0], [1, 0]])).isNaN)
  }
}

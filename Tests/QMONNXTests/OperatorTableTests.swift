import Foundation
import QMONNX
import Testing

@Suite struct OperatorTableTests {
  @Test func everyOperatorStandsOnce() {
    let names = OperatorTable.operators.map(\.name)
    #expect(Set(names).count == names.count)
    #expect(names.contains("Conv") && names.contains("Dropout"))
  }

  @Test func opsetsLieWithinThoseRead() {
    for entry in OperatorTable.operators {
      #expect(ONNXReader.opsets.contains(entry.opsets.lowerBound), "\(entry.name)")
      #expect(ONNXReader.opsets.contains(entry.opsets.upperBound), "\(entry.name)")
    }
  }

  /// schema/operators.md holds the table that `qconvert --list-operators` prints.
  @Test func theListOfOperatorsHasTheTable() throws {
    let list = try String(
      contentsOf: Fixtures.root.appending(path: "schema/operators.md"), encoding: .utf8)
    let table = OperatorTable.markdown.joined(separator: "\n")
    #expect(
      list.contains(table),
      "run `make operators`: the table in schema/operators.md is not that of the source")
  }
}

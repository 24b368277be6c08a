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

  /// README.md holds the table that `qconvert --list-operators` prints.
  @Test func theReadmeHasTheTable() throws {
    let readme = try String(contentsOf: Fixtures.root.appending(path: "README.md"), encoding: .utf8)
    let table = OperatorTable.markdown.joined(separator: "\n")
    #expect(
      readme.contains(table),
      "run `make operators`: the table of operators in README.md is not that of the source")
  }
}

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
}

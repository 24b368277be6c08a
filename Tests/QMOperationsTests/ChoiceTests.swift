import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct ChoiceTests {
  @Test func takesOneSideWhole() throws {
    var generator = SeededGenerator(seed: 73)
    for elementType in ElementType.allCases {
      for shape in [[], [1], [3, 17], [67]] as [[Int]] {
        let left = try generator.bytes(elementType, shape)
        let right = try generator.bytes(elementType, shape)
        for (condition, side) in [(true, left), (false, right)] {
          for extents in [[], [1], [1, 1]] as [[Int]] {
            let output = try If().run([
              Given(extents, [condition]), Given(left), Given(right),
            ])[0]
            #expect(output.isIdentical(to: side))
          }
        }
      }
    }
  }

  @Test func axesThatDifferAreFreeUntilTheConditionIsKnown() throws {
    func type(_ condition: Operand, _ left: Shape, _ right: Shape) throws -> Shape {
      try If().outputTypes(for: [
        condition, Operand(ValueType(.int8, left)), Operand(ValueType(.int8, right)),
      ])[0].shape
    }
    let open = Operand(ValueType(.bool, []))
    #expect(try type(open, [2, .free("n"), 3], [2, .free("n"), 4]) == [2, .free("n"), .free("")])
    #expect(try type(open, [.free("n")], [.free("m")]) == [.free("")])
    for (isTrue, extent) in [(true, 3), (false, 4)] {
      let known = Operand(ValueType(.bool, []), constant: try Tensor([], [isTrue]))
      #expect(try type(known, [2, 3], [2, 4]) == [2, .fixed(extent)])
    }
    #expect(throws: QMError.malformed("")) { try type(open, [2], [2, 1]) }
    #expect(throws: QMError.malformed("")) {
      try type(Operand(ValueType(.bool, [2])), [2], [2])
    }
    #expect(throws: QMError.malformed("")) { try type(Operand(ValueType(.int8, [])), [2], [2]) }
  }

  @Test func sidesAreOfOneType() throws {
    let condition = try Given([], [true])
    let (codes, others) = (
      try Given([2], [Int8(1), 2], .fixed(scale: 1, zeroPoint: 0)),
      try Given([2], [Int8(1), 2], .fixed(scale: 2, zeroPoint: 0))
    )
    #expect(try If().types(for: [condition, codes, codes])[0] == codes.type)
    #expect(throws: QMError.malformed("")) { try If().types(for: [condition, codes, others]) }
    #expect(throws: QMError.malformed("")) {
      try If().types(for: [condition, codes, Given([2], [UInt8(1), 2])])
    }
    #expect(throws: QMError.malformed("")) { try If().types(for: [condition, codes]) }
  }
}

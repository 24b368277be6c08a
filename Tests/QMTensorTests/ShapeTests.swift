import QMTensor
import Testing

@Suite struct ShapeTests {
  /// The hash that names an axis of a long formula tells a reader nothing.
  @Test func aHashIsNotShown() {
    let derived = Shape.Axis.derived(String(repeating: "n + ", count: 60) + "1")
    #expect(derived != .free("") && derived.description == "?")
    #expect(Shape([derived, .free("n"), 3]).description == "[?, n, 3]")
    #expect(Shape.Axis.derived("n + 1").description == "n + 1")
    #expect(Shape.Axis.free("#items").description == "#items")
  }

  @Test func elementCountRefusesOverflowAndNegativeExtents() {
    #expect(Shape.elementCount(of: []) == 1)
    #expect(Shape.elementCount(of: [3, 0, 5]) == 0)
    #expect(Shape.elementCount(of: [-1, 4]) == nil)
    #expect(Shape.elementCount(of: [1 << 32, 1 << 32]) == nil)
  }
}

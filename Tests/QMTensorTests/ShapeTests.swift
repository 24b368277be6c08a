import QMTensor
import Testing

@Suite struct ShapeTests {
  @Test func elementCountRefusesOverflowAndNegativeExtents() {
    #expect(Shape.elementCount(of: []) == 1)
    #expect(Shape.elementCount(of: [3, 0, 5]) == 0)
    #expect(Shape.elementCount(of: [-1, 4]) == nil)
    #expect(Shape.elementCount(of: [1 << 32, 1 << 32]) == nil)
  }
}

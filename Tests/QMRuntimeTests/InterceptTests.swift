import QMOperations
import QMRuntime
import QMTensor
import Testing

/// What takes part in a run sees its values, and rewrites those alone that it asks for.
@Suite struct InterceptTests {
  /// Values 0: x, 1: one, 2: x + 1, 3: its root, 4: the shape of x.
  private func model() throws -> Model {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let one = builder.constant(try Tensor([1], [Float(1)]))
    let sum = try builder.append(.binary(Binary(.add)), [x, one])
    let root = try builder.append(.unary(Unary(.squareRoot)), [sum])
    let shape = try builder.append(.shape(ShapeOperation()), [x])
    return try Model(builder.program(["root": root, "shape": shape, "x": x]))
  }

  private func write(_ number: Float, to view: TensorView) {
    for index in 0..<view.elementCount { view.elements(as: Float.self)[index] = number }
  }

  @Test func anObserverSeesEveryValue() throws {
    var seen: [Int: [Float]] = [:]
    _ = try Session(model()).run(
      ["x": Tensor([2], [Float(3), 8])],
      observing: { (value, view) throws(QMError) in
        if view.elementType == .float32 { seen[value] = Array(view.elements(as: Float.self)) }
      })
    #expect(seen == [0: [3, 8], 2: [4, 9], 3: [2, 3]])
  }

  @Test func readersSeeWhatIsRewritten() throws {
    let session = Session(try model())
    let x = try Tensor([2], [Float(3), 8])
    let outputs = try session.run(
      ["x": x], intercepting: Intercept(of: [2]) { (_, view) in write(16, to: view) })
    #expect(outputs["root"]?.elements(as: Float.self) == [4, 4])
    // The next run is as if nothing had been.
    #expect(try session.run(["x": x])["root"]?.elements(as: Float.self) == [2, 3])
  }

  @Test func theCallersTensorsStayAsTheyAre() throws {
    let session = Session(try model())
    let x = try Tensor([2], [Float(3), 8])
    let outputs = try session.run(
      ["x": x], intercepting: Intercept(of: [0]) { (_, view) in write(24, to: view) })
    #expect(outputs["root"]?.elements(as: Float.self) == [5, 5])
    #expect(outputs["x"]?.elements(as: Float.self) == [24, 24])
    #expect(x.elements(as: Float.self) == [3, 8])
  }

  @Test func constantsAreNotOffered() throws {
    var offered: Set<Int> = []
    let outputs = try Session(model()).run(
      ["x": Tensor([2], [Float(3), 8])],
      intercepting: Intercept(of: [0, 1, 2, 3, 4]) { (value, _) in offered.insert(value) })
    #expect(offered == [0, 2, 3])
    #expect(outputs["shape"]?.elements(as: Int64.self) == [2])
  }
}

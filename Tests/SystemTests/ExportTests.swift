import QMFormat
import QMGraph
import QMONNX
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// A converted network, written as ONNX and read again.
@Suite struct ExportTests {
  /// The export is as near to the float network as the program: where it is float32 it is nearer, and
  /// elsewhere they differ in codes next to a tie. (Not for ppocr_cls: its two probabilities are near 0
  /// and 1, and the error over so few samples is that of one of them.)
  @Test(arguments: FixtureModel.all.filter { $0.name != "ppocr_cls" }, [4, 8])
  func theExportIsAsGoodAsTheProgram(
    fixture: FixtureModel, bits: Int
  ) throws {
    let program = try fixture.conversion(bits: bits).program
    let exported = try Model(read(program.raised(.codes).graph).flattened().program)
    let float = try Model(fixture.graph().flattened().program)
    let own = try Model(program)
    let samples = try fixture.samples("calib", limit: 8)
    var (errorOfExport, errorOfProgram) = (0.0, 0.0)
    for index in 0..<samples.count {
      let inputs = try samples.inputs(of: index)
      let expected = try float.run(inputs)
      errorOfExport += try error(exported.run(inputs), expected)
      errorOfProgram += try error(own.run(inputs), expected)
    }
    // 1 dB.
    #expect(errorOfExport <= errorOfProgram * 1.26)
  }

  /// Without codes the export is the float network over the dequantized weights, to the last bits.
  @Test(arguments: FixtureModel.all) func theFloatExportIsTheRaisedGraph(
    fixture: FixtureModel
  ) throws {
    let graph = try fixture.conversion(bits: 4).program.raised(.float).graph
    let read = try DefaultPasses.run(on: read(graph)).flattened().program
    try expectAgreement(
      read, DefaultPasses.run(on: graph).flattened().program, fixture, least: 110)
  }

  /// Dynamic ranges become float32, with a reason.
  @Test func dynamicRangesAreFloat() throws {
    let fixture = FixtureModel(name: "digits_mlp")
    let program = try fixture.conversion(bits: 8, activations: .dynamic).program
    let raised = try program.raised(.codes)
    #expect(
      raised.floatNodes.map(\.operation) == ["MatrixMultiply", "MatrixMultiply", "MatrixMultiply"])
    #expect(!raised.graph.isQuantized)
    try expectAgreement(
      read(raised.graph).flattened().program, program, fixture, least: 30)
  }

  /// x → codes → hardSwish → codes → clip → codes, which become two tables.
  private func tables() throws -> Program {
    var graph = Graph()
    var value = try graph.addInput(name: "x", ValueType(.float32, [64]))
    func rounded(_ scale: Float, _ zeroPoint: Int32) throws {
      value = try graph.append(
        .quantize(Quantize(.int8, scale: scale, zeroPoint: zeroPoint)), name: "q", [value])[0]
      value = try graph.append(.dequantize(Dequantize()), name: "d", [value])[0]
    }
    try rounded(0.05, 3)
    for function in [UnaryFunction.hardSwish, .clip(minimum: 0, maximum: 3)] {
      value = try graph.append(.unary(Unary(function)), name: "f", [value])[0]
      try rounded(0.03, -100)
    }
    try graph.addOutput(name: "y", value)
    return try graph.lowered().flattened().program
  }

  private func tableCount(_ graph: Graph) -> Int {
    graph.nodes.count { if case .table = $0.operation { true } else { false } }
  }

  /// A file holds the functions of its tables, which are written back as these; without them the
  /// export looks the codes up, and where the functions do not give the table. All give the program's
  /// bits.
  @Test func tablesComeBackAsFunctions() throws {
    let program = try tables()
    #expect(program.tableFunctions == [[.hardSwish], [.clip(minimum: 0, maximum: 3)]])
    var unknown = program
    unknown.metadata.entries = []
    var wrong = program
    wrong.metadata.entries = []
    wrong.metadata.setTableFunctions([[.hardSwish], [.relu]])
    let graphs = try [program, unknown, wrong].map { try $0.raised(.codes).graph }
    #expect(graphs.map(tableCount) == [0, 2, 1])
    let inputs = ["x": try Tensor([64], (0..<64).map { Float($0 - 32) * 0.21 })]
    let expected = try #require(Model(program).run(inputs)["y"])
    for graph in graphs {
      let output = try #require(Model(read(graph).flattened().program).run(inputs)["y"])
      #expect(firstDifference(output, expected) == nil)
    }
  }

  /// A list that names no function, or too many lists, is as none.
  @Test(arguments: ["7", "1:0.0", "1:0.0,nan", "99", "x", "8;8"]) func otherListsAreNotRead(
    text: String
  ) throws {
    var program = try tables()
    let lists = [text, text].joined(separator: ";")
    program.metadata.entries = [.init(Program.Metadata.tableFunctionsKey, lists)]
    #expect(program.tableFunctions == nil)
  }

  private func read(_ graph: Graph) throws -> Graph {
    try ONNXReader.read(
      bytes: ONNXWriter.encode(graph, producer: "test", version: "1").bytes)
  }

  private func error(
    _ outputs: [String: Tensor], _ expected: [String: Tensor]
  ) throws -> Double {
    var sum = 0.0
    for (name, tensor) in expected {
      let found = try #require(outputs[name]).elements(as: Float.self)
      for (wanted, found) in zip(tensor.elements(as: Float.self), found) {
        sum += Double(wanted - found) * Double(wanted - found)
      }
    }
    return sum
  }

  /// Compares all outputs on four samples, by the median SQNR in dB.
  private func expectAgreement(
    _ program: Program, _ reference: Program, _ fixture: FixtureModel, least: Double
  ) throws {
    let samples = try fixture.samples("calib", limit: 4)
    let (own, other) = (try Model(program), try Model(reference))
    for index in 0..<samples.count {
      let inputs = try samples.inputs(of: index)
      let expected = try other.run(inputs)
      for (name, output) in try own.run(inputs) {
        let wanted = try #require(expected[name]).elements(as: Float.self).map(Double.init)
        let found = output.elements(as: Float.self).map(Double.init)
        let error = zip(wanted, found).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        let signal = wanted.reduce(0) { $0 + $1 * $1 }
        #expect(
          error <= signal / decibels(least), "\(name): error \(error) beside \(signal)")
      }
    }
  }

  /// The ratio of powers that a number of dB is.
  private func decibels(_ number: Double) -> Double {
    (0..<Int(number / 10)).reduce(1) { ratio, _ in ratio * 10 }
  }
}

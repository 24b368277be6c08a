import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// The laws that hold for every network and every number of bits.
@Suite struct LawsTests {
  static let bits = [2, 3, 4, 8]

  // MARK: 1. Decoding returns the program that was encoded, and a conversion is deterministic

  @Test(arguments: FixtureModel.all, bits) func aFileHoldsItsProgram(
    fixture: FixtureModel, bits: Int
  ) throws {
    let program = try fixture.conversion(bits: bits).program
    let bytes = try program.encoded()
    let decoded = try bytes.withUnsafeBytes { bytes in
      try Program(decoding: Buffer.copying(bytes))
    }
    #expect(decoded == program)
  }

  @Test(arguments: FixtureModel.all, [2, 4]) func threadsAndKernelsDoNotChangeTheFile(
    fixture: FixtureModel, bits: Int
  ) throws {
    let expected = try fixture.conversion(bits: bits).program.encoded()
    for options in [
      Model.Options(threadCount: 2), Model.Options(threadCount: 3, kernels: .portable),
    ] {
      #expect(try fixture.conversion(bits: bits, options: options).program.encoded() == expected)
    }
  }

  @Test(arguments: FixtureModel.all, [2, 4]) func partsOfTheSamplesDoNotChangeTheFile(
    fixture: FixtureModel, bits: Int
  ) throws {
    let whole = try fixture.conversion(bits: bits).program.encoded()
    let samples = try fixture.samples("calib", limit: 8)
    let converter = Converter(
      recipe: Recipe(weights: .codes(Double(bits)), activations: .int8),
      options: Model.Options(threadCount: 2))
    try withTemporaryFolder { folder in
      let paths = try [0..<3, 3..<8].map { part in
        let path = "\(folder)/\(part.lowerBound).qstats"
        try converter.observe(
          fixture.graph(), samples: SampleSubset(of: samples, Array(part)), to: path)
        return path
      }
      let merged = try converter.convert(
        fixture.graph(), observations: Observations(contentsOf: paths.reversed()))
      #expect(try merged.program.encoded() == whole)
    }
  }

  // MARK: 2. The simulation specifies the program

  /// Compares each node on integers with the same operation on the dequantized inputs of that node,
  /// rounded afterwards.
  @Test(arguments: FixtureModel.all, bits) func everyNodeIsItsSimulation(
    fixture: FixtureModel, bits: Int
  ) throws {
    try compareNodes(of: fixture, bits: bits, activations: .int8)
    try compareNodes(of: fixture, bits: bits, activations: .dynamic)
  }

  private func compareNodes(
    of fixture: FixtureModel, bits: Int, activations: Recipe.Activations
  ) throws {
    let program = try fixture.conversion(bits: bits, activations: activations).program
    let session = Session(try Model(program))
    var seen: [Int: Tensor] = [:]
    for constant in program.values.indices {
      if let number = program.values[constant].constant {
        seen[constant] = program.constants[number].tensor
      }
    }
    _ = try session.run(
      fixture.noisyInputs(),
      observing: { (value, view) throws(QMError) in
        seen[value] = try Tensor(view.elementType, view.shape, buffer: Buffer.copying(view.bytes))
      })
    var compared = 0
    for node in program.nodes {
      guard let twin = node.operation.inFloat32, let output = node.outputs.first,
        case .fixed(let scale, let zeroPoint) = program.values[output].type.quantization,
        let codes = seen[output]
      else { continue }
      var inputs: [Tensor?] = []
      for (position, input) in node.inputs.enumerated() {
        inputs.append(
          try input.flatMap { try floatInput($0, at: position, of: node, program, seen) })
      }
      let exact = try #require(try twin.evaluate(inputs).first)
      let simulated = try Operation.quantize(
        Quantize(codes.elementType, scale: scale, zeroPoint: zeroPoint)
      ).evaluate([exact])[0]
      let differences = try zip(
        simulated.converted(to: .int32).elements(as: Int32.self),
        codes.converted(to: .int32).elements(as: Int32.self)
      ).map { abs($0 - $1) }
      #expect(differences.allSatisfy { $0 <= 1 }, "\(node.operation.name) '\(node.name)'")
      let unequal = differences.filter { $0 != 0 }.count
      // At most 0.1 % of the elements, but one element is always allowed.
      #expect(
        unequal <= max(1, differences.count / 1000),
        "\(node.operation.name) '\(node.name)': \(unequal) of \(differences.count)")
      compared += 1
    }
    // Below 4 bits a search may leave nothing with fixed ranges.
    #expect(activations == .dynamic || bits < 4 || compared >= 2)
  }

  /// The dequantized operand of a node; nil for operands that only the integer form has.
  private func floatInput(
    _ value: Int, at position: Int, of node: Program.Node, _ program: Program, _ seen: [Int: Tensor]
  ) throws -> Tensor? {
    let tensor = try #require(seen[value])
    let quantization = program.values[value].type.quantization
    if node.operation.isProduct {
      switch position {
      case ProductOperand.weightScales, ProductOperand.inputParameters:
        return nil
      case ProductOperand.bias where tensor.elementType == .int32:
        // Codes in units of input scale · weight scale.
        guard let input = node.inputs[ProductOperand.input],
          case .fixed(let scale, _) = program.values[input].type.quantization,
          let scales = node.inputs[ProductOperand.weightScales].flatMap({ seen[$0] })
        else { throw QMError.internalFault("an integer bias without scales") }
        let weightScales = scales.elements(as: Float.self)
        return try Tensor(
          tensor.shape,
          tensor.elements(as: Int32.self).enumerated().map { channel, code in
            Float(code) * (scale * weightScales[weightScales.count == 1 ? 0 : channel])
          })
      default:
        break
      }
    }
    switch quantization {
    case .none:
      return tensor
    case .fixed:
      return try Operation.dequantize(Dequantize())
        .evaluate([tensor], quantizations: [quantization])[0]
    case .weights:
      let scales = node.inputs[ProductOperand.weightScales].flatMap { seen[$0] }
      return try Operation.dequantize(Dequantize())
        .evaluate([tensor, scales], quantizations: [quantization])[0]
    case .dynamic:
      let parameters = node.inputs[ProductOperand.inputParameters].flatMap { seen[$0] }
      return try Operation.dequantize(Dequantize())
        .evaluate([tensor, parameters], quantizations: [quantization])[0]
    }
  }

  /// The program is closer to its simulation than the simulation is to the float network, by 10 dB.
  @Test(arguments: FixtureModel.all, bits) func theProgramIsItsSimulation(
    fixture: FixtureModel, bits: Int
  ) throws {
    let conversion = try fixture.conversion(bits: bits)
    let program = Session(try Model(conversion.program))
    let simulation = Session(try Model(conversion.simulation.flattened().program))
    let float = Session(try Model(conversion.graph.flattened().program))
    let parts = JudgedParts(of: conversion.program)
    var programToSimulation: [String: OutputComparison] = [:]
    var simulationToFloat: [String: OutputComparison] = [:]
    let samples = try fixture.samples("calib", limit: 8)
    for index in 0..<samples.count {
      let inputs = try samples.inputs(of: index)
      let (exact, simulated, found) = (
        try float.run(inputs), try simulation.run(inputs), try program.run(inputs)
      )
      for (name, tensor) in simulated {
        try programToSimulation[name, default: parts.comparison(of: name)]
          .add(reference: tensor, measured: #require(found[name]))
        try simulationToFloat[name, default: parts.comparison(of: name)]
          .add(reference: #require(exact[name]), measured: tensor)
      }
    }
    for (name, comparison) in programToSimulation {
      let distance = try #require(simulationToFloat[name])
      #expect(comparison.signalToNoise >= distance.signalToNoise + 10, "output '\(name)'")
    }
  }

  // MARK: 3. Fast kernels equal the reference loops

  @Test(arguments: FixtureModel.all, bits + [32]) func everyKernelSetGivesTheSameBits(
    fixture: FixtureModel, bits: Int
  ) throws {
    let program =
      bits == 32
      ? try DefaultPasses.run(on: fixture.graph()).flattened().program
      : try fixture.conversion(bits: bits, activations: bits == 3 ? .dynamic : .int8).program
    let inputs = try fixture.samples("calib", limit: 1).inputs(of: 0)
    let expected = try Model(program, options: .init(kernels: .reference)).run(inputs)
    for kernels in KernelSet.available {
      for threadCount in 1...3 {
        let outputs = try Model(
          program, options: .init(threadCount: threadCount, kernels: kernels)
        ).run(inputs)
        for (name, tensor) in expected {
          #expect(
            try #require(outputs[name]).isIdentical(to: tensor),
            "output '\(name)', \(kernels), \(threadCount) threads")
        }
      }
    }
  }

  // MARK: 4. At 8 bits the error is bounded

  /// Least SQNR in dB with 8-bit weights and activations and ranges that do not clip: 40 for
  /// perceptrons, 25 for convolutional networks.
  @Test(arguments: zip(FixtureModel.all, [40.0, 25, 25])) func eightBitsAreNearFloat(
    fixture: FixtureModel, bound: Double
  ) throws {
    for (name, comparison) in try fixture.conversion(bits: 8).comparisons {
      #expect(comparison.signalToNoise >= bound, "output '\(name)'")
    }
    for (name, comparison) in try fixture.conversion(bits: 8, activations: .dynamic).comparisons {
      #expect(comparison.signalToNoise >= bound, "output '\(name)'")
    }
  }

  // MARK: 5. A sample's result does not depend on its batch

  @Test(arguments: FixtureModel.all, [Recipe.Activations.int8, .dynamic])
  func aSampleIsTheSameInABatch(fixture: FixtureModel, activations: Recipe.Activations) throws {
    let model = try Model(fixture.conversion(bits: 4, activations: activations).program)
    let samples = try fixture.samples("calib", limit: 5)
    let name = try #require(model.inputs.first).name
    var singles: [Tensor] = []
    for index in 0..<samples.count { singles.append(try #require(samples.inputs(of: index)[name])) }
    let shape = singles[0].shape
    try #require(singles.allSatisfy { $0.shape == shape && shape[0] == 1 })
    let batch = try Tensor(
      [singles.count] + shape.dropFirst(), singles.flatMap { $0.elements(as: Float.self) })
    for (output, tensor) in try model.run([name: batch]) {
      let rows = tensor.elements(as: Float.self)
      let size = rows.count / singles.count
      for (index, single) in singles.enumerated() {
        let alone = try #require(try model.run([name: single])[output]).elements(as: Float.self)
        #expect(Array(rows[(index * size)..<((index + 1) * size)]) == alone, "sample \(index)")
      }
    }
  }
}

extension Operation {
  var isProduct: Bool {
    switch self {
    case .convolution, .matrixMultiply: true
    default: false
    }
  }

  /// The operation with a float32 result; nil for operations that do not round their result.
  var inFloat32: Operation? {
    switch self {
    case .convolution(var operation):
      operation.epilogue.output = .float32
      return .convolution(operation)
    case .matrixMultiply(var operation):
      operation.epilogue.output = .float32
      return .matrixMultiply(operation)
    case .unary(var operation):
      operation.output = .float32
      return .unary(operation)
    case .binary(var operation):
      operation.output = .float32
      return .binary(operation)
    case .pooling(var operation):
      operation.output = .float32
      return .pooling(operation)
    case .reduction(var operation):
      operation.output = .float32
      return .reduction(operation)
    case .softmax(var operation):
      operation.output = .float32
      return .softmax(operation)
    case .layerNormalization(var operation):
      operation.output = .float32
      return .layerNormalization(operation)
    default:
      return nil
    }
  }
}

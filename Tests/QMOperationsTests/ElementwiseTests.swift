import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// Elements of a type on a grid (float32: numbers within ±8, some special), the same in every run.
func randomValue(
  _ elementType: ElementType, _ shape: [Int], seed: UInt64, zeroPoint: Int32 = 3
) throws -> TestOperand {
  var generator = SeededGenerator(seed: seed)
  let count = shape.reduce(1, *)
  switch elementType {
  case .int8:
    let codes = (0..<count).map { _ in Int8.random(in: -128...127, using: &generator) }
    return try TestOperand(Tensor(shape, codes), .fixed(scale: 0.05, zeroPoint: zeroPoint))
  case .uint8:
    let codes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    return try TestOperand(Tensor(shape, codes), .fixed(scale: 0.03, zeroPoint: 100 + zeroPoint))
  case .int16:
    let codes = (0..<count).map { _ in Int16.random(in: -32768...32767, using: &generator) }
    return try TestOperand(Tensor(shape, codes), .fixed(scale: 0.0004, zeroPoint: zeroPoint * 50))
  default:
    let special: [Float] = [.nan, .infinity, -.infinity, 0, -0.0, 1e30, -0x1p-140]
    let numbers = (0..<count).map { index in
      index % 23 == 7
        ? special.randomElement(using: &generator)! : Float.random(in: -8...8, using: &generator)
    }
    return try TestOperand(Tensor(shape, numbers))
  }
}

/// See the function with three parameters; the description is made from the types.
func expectKernelsEqualReference(_ operation: any OperationProtocol, _ inputs: [TestOperand]) throws
{
  try expectKernelsEqualReference(operation, inputs, "\(operation) of \(inputs.map(\.type))")
}

private let everyOutput: [OutputEncoding] = [
  .float32, .quantized(.int8, scale: 0.06, zeroPoint: -7),
  .quantized(.uint8, scale: 0.06, zeroPoint: 120), .quantized(.int16, scale: 0.001, zeroPoint: 900),
]
private let everyElementType: [ElementType] = [.float32, .int8, .uint8, .int16]

@Suite struct BroadcastTests {
  @Test func freeAxesFollowNumPy() throws {
    let batch = Shape.Axis.free("batch")
    #expect(try Shape.broadcast([batch, 1, 3], [4, 1]) == [batch, 4, 3])
    #expect(try Shape.broadcast([batch], [7]) == [7])
    #expect(try Shape.broadcast([1], [batch]) == [batch])
    #expect(try Shape.broadcast([batch], [batch]) == [batch])
    #expect(try Shape.broadcast([batch], [.free("time")]) == [.free("")])
    #expect(try Shape.broadcast([], [2, 0]) == [2, 0])
    #expect(try Shape.broadcast([1], [0]) == [0])
    #expect(throws: QMError.malformed("")) { try Shape.broadcast([2, 3], [2]) }
    #expect(throws: QMError.malformed("")) { try Shape.broadcast([0], [2]) }
  }

  /// Every way in which up to four axes of one or the other operand have extent 1.
  @Test func kernelsEqualReferenceOnEveryBroadcast() throws {
    let output = [2, 3, 5, 4]
    for mask in 0..<256 {
      let left = (0..<4).map { mask >> $0 & 1 == 0 ? output[$0] : 1 }
      let right = (0..<4).map { mask >> ($0 + 4) & 1 == 0 ? output[$0] : 1 }
      let dropped = Array(right.drop { $0 == 1 })
      let operation = Binary(.subtract, output: .quantized(.int8, scale: 0.1, zeroPoint: 5))
      try expectKernelsEqualReference(
        operation,
        [randomValue(.int8, left, seed: 1), randomValue(.float32, dropped, seed: 2)])
    }
  }

  @Test func kernelsEqualReferenceOnLongAndEmptyRuns() throws {
    let shapes: [([Int], [Int])] = [
      ([70_000], [70_000]), ([70_001], []), ([40, 700, 3], [700, 3]), ([3, 70, 600], [600]),
      ([900, 40], [40]), ([1, 8], [9000, 8]), ([5, 20_000], [5, 1]), ([4, 0, 3], [3]), ([0], [1]),
      ([2, 40, 24, 16], [2, 1, 1, 16]), ([2, 16, 30, 40], [1, 16, 1, 1]),
    ]
    for (left, right) in shapes {
      for (leftType, rightType) in [(ElementType.int8, ElementType.int8), (.float32, .float32)] {
        for output in everyOutput.prefix(2) {
          let operation = Binary(.add, secondFunction: .relu, output: output)
          let a = try randomValue(leftType, left, seed: 3)
          let b = try randomValue(rightType, right, seed: 4)
          try expectKernelsEqualReference(operation, [a, b])
          try expectKernelsEqualReference(operation, [b, a])
        }
      }
    }
  }
}

@Suite struct ElementwiseTests {
  @Test(arguments: BinaryFunction.allCases)
  func binaryKernelsEqualReference(function: BinaryFunction) throws {
    for (index, left) in everyElementType.enumerated() {
      for right in everyElementType {
        for output in everyOutput {
          for then in [nil, UnaryFunction.clip(minimum: 0, maximum: 6), .sigmoid] {
            let count = 33 + 7 * index
            try expectKernelsEqualReference(
              Binary(function, secondFunction: then, output: output),
              [randomValue(left, [3, count], seed: 5), randomValue(right, [3, count], seed: 6)])
          }
        }
      }
    }
  }

  /// The patterns with loops of their own: both operands in step, one repeated, rows repeated.
  @Test(arguments: BinaryFunction.allCases)
  func binaryPatternsEqualReference(function: BinaryFunction) throws {
    let shapes: [([Int], [Int])] = [([7, 100], [7, 100]), ([7, 100], [100]), ([7, 100], [])]
    for (one, other) in shapes {
      for then in [nil, UnaryFunction.relu, .clip(minimum: -2, maximum: 1), .tanh] {
        for otherType in [ElementType.int8, .float32] {
          let a = try randomValue(.int8, one, seed: 12)
          let b = try randomValue(otherType, other, seed: 13)
          let output = OutputEncoding.quantized(.int8, scale: 0.05, zeroPoint: 4)
          let operation = Binary(function, secondFunction: then, output: output)
          try expectKernelsEqualReference(operation, [a, b])
          try expectKernelsEqualReference(operation, [b, a])
        }
      }
    }
  }

  @Test func binaryKernelsEqualReferenceAtEverySize() throws {
    for count in 1...67 {
      for elementType in everyElementType {
        for output in everyOutput {
          try expectKernelsEqualReference(
            Binary(.multiply, output: output),
            [
              randomValue(elementType, [count], seed: 7),
              randomValue(elementType, [count], seed: 8, zeroPoint: 0),
            ])
        }
      }
    }
  }

  @Test(arguments: everyFunction)
  func unaryKernelsEqualReference(function: UnaryFunction) throws {
    for elementType in everyElementType {
      for output in everyOutput {
        for count in [7, 67, 600] {
          try expectKernelsEqualReference(
            Unary(function, output: output), [randomValue(elementType, [count], seed: 9)])
        }
      }
    }
  }

  @Test func longUnaryRunsAreCutWithoutEffect() throws {
    for output in everyOutput.prefix(2) {
      for elementType in everyElementType {
        try expectKernelsEqualReference(
          Unary(.sigmoid, output: output), [randomValue(elementType, [50_000], seed: 10)])
      }
    }
  }

  /// A table holds what the function gives on codes, for each of the 256 codes.
  @Test(arguments: everyFunction)
  func tableEqualsUnary(function: UnaryFunction) throws {
    for (scale, zeroPoint) in [(Float(0.05), Int32(3)), (0.011, -128), (0.5, 127)] {
      let codes = try TestOperand(
        Tensor([256], (-128...127).map { Int8($0) }), .fixed(scale: scale, zeroPoint: zeroPoint))
      let table = lookupTable(
        of: [function], inputScale: scale, inputZeroPoint: zeroPoint, outputScale: 0.02,
        outputZeroPoint: -5)
      let output = OutputEncoding.quantized(.int8, scale: 0.02, zeroPoint: -5)
      let byFunction = try referenceOutputs(Unary(function, output: output), [codes])
      let entries = try TestOperand(Tensor([256], table))
      let operation = Table(scale: 0.02, zeroPoint: -5)
      let byTable = try referenceOutputs(operation, [codes, entries])
      #expect(byFunction[0].isIdentical(to: byTable[0]))
    }
  }

  @Test func tableKernelsEqualReference() throws {
    var generator = SeededGenerator(seed: 14)
    let entries = (0..<256).map { _ in Int8.random(in: -128...127, using: &generator) }
    let table = try TestOperand(Tensor([256], entries))
    for count in Array(1...67) + [256, 50_000] {
      try expectKernelsEqualReference(
        Table(scale: 0.02, zeroPoint: -5),
        [randomValue(.int8, [count], seed: UInt64(count)), table])
    }
  }

  @Test func knownValues() throws {
    let a = try TestOperand(Tensor([2, 1], [1, 4] as [Float]))
    let b = try TestOperand(Tensor([3], [2, 0.5, -1] as [Float]))
    func result(_ function: BinaryFunction) throws -> [Float] {
      try referenceOutputs(Binary(function), [a, b])[0].elements()
    }
    #expect(try result(.add) == [3, 1.5, 0, 6, 4.5, 3])
    #expect(try result(.divide) == [0.5, 2, -1, 2, 8, -4])
    #expect(try result(.power) == [1, 1, 1, 16, 2, 0.25])
    #expect(try result(.remainder) == [1, 0, 0, 0, 0, 0])
    #expect(BinaryFunction.maximum(.nan, 1).isNaN && BinaryFunction.maximum(1, .nan).isNaN)
    #expect(BinaryFunction.minimum(.nan, 1).isNaN && BinaryFunction.minimum(1, .nan).isNaN)
  }

  /// scale · (code − zeroPoint) on each side, one rounding at the end.
  @Test func additionOfCodesRoundsOnce() throws {
    let left = try TestOperand(
      Tensor([4], [-128, 0, 100, 127] as [Int8]), .fixed(scale: 0.5, zeroPoint: 0))
    let right = try TestOperand(
      Tensor([4], [10, 11, 12, 13] as [Int8]), .fixed(scale: 0.25, zeroPoint: 10))
    let operation = Binary(.add, output: .quantized(.int8, scale: 0.5, zeroPoint: 1))
    let found = try referenceOutputs(operation, [left, right])[0].elements(as: Int8.self)
    #expect(found == [-127, 1, 102, 127])
  }

  @Test("compatibility break: the numbers of functions are written in files")
  func binaryCodesAreFrozen() {
    let inOrder: [BinaryFunction] = [
      .add, .subtract, .multiply, .divide, .minimum, .maximum, .power, .remainder,
      .parametricRelu,
    ]
    #expect(inOrder.map(\.rawValue) == Array(0..<9))
    #expect(BinaryFunction.allCases == inOrder)
  }

  @Test func integersWrapAndTruncate() throws {
    func result(_ function: BinaryFunction, _ a: [Int64], _ b: [Int64]) throws -> [Int64] {
      let inputs = try [TestOperand(Tensor([a.count], a)), TestOperand(Tensor([b.count], b))]
      return try referenceOutputs(Binary(function), inputs)[0].elements()
    }
    #expect(try result(.add, [.max], [1]) == [.min])
    #expect(try result(.divide, [-7, 7, .min, 6], [2, -2, -1, 3]) == [-3, -3, .min, 2])
    #expect(try result(.remainder, [-7, 7, .min, 6], [2, -2, -1, 3]) == [1, -1, 0, 0])
    #expect(try result(.power, [2, -3, 2, -1, 1], [10, 3, -1, -3, -5]) == [1024, -27, 0, -1, 1])
    #expect(throws: QMError.invalidInput("")) { try result(.divide, [1], [0]) }
    #expect(throws: QMError.invalidInput("")) { try result(.remainder, [1], [0]) }
    #expect(throws: QMError.invalidInput("")) { try result(.power, [0], [-1]) }
    let extremes = try TestOperand(Tensor([3], [Int32.min, -5, 5]))
    let absolute = try referenceOutputs(Unary(.absolute), [extremes])[0]
    #expect(absolute.elements(as: Int32.self) == [.min, 5, 5])
    let sign = try referenceOutputs(Unary(.sign), [extremes])[0]
    #expect(sign.elements(as: Int32.self) == [-1, -1, 1])
  }

  @Test func refusals() throws {
    let number = try randomValue(.float32, [2], seed: 1)
    let codes = try randomValue(.int8, [2], seed: 1)
    let bare = TestOperand(codes.tensor)
    let whole = try TestOperand(Tensor([2], [1, 2] as [Int32]))
    let double = try TestOperand(Tensor([2], [1, 2] as [Double]))
    let badGrids: [OutputEncoding] = [
      .quantized(.int8, scale: 0, zeroPoint: 0), .quantized(.int8, scale: .nan, zeroPoint: 0),
      .quantized(.int8, scale: 0x1p-130, zeroPoint: 0), .quantized(.int8, scale: 1, zeroPoint: 128),
      .quantized(.int32, scale: 1, zeroPoint: 0), .quantized(.uint8, scale: 1, zeroPoint: -1),
    ]
    for output in badGrids {
      #expect(throws: QMError.malformed("")) {
        try referenceOutputs(Unary(.relu, output: output), [number])
      }
      #expect(throws: QMError.malformed("")) {
        try referenceOutputs(Binary(.add, output: output), [number, number])
      }
    }
    for input in [bare, whole, double] {
      #expect(throws: QMError.malformed("")) { try referenceOutputs(Unary(.relu), [input]) }
      #expect(throws: QMError.malformed("")) {
        try referenceOutputs(Binary(.add), [number, input])
      }
    }
    #expect(throws: QMError.malformed("")) { try referenceOutputs(Binary(.add), [number]) }
    let dynamic = TestOperand(codes.tensor, .dynamic(axes: 1))
    #expect(throws: QMError.malformed("")) { try referenceOutputs(Cast(to: .float32), [dynamic]) }
    #expect(throws: QMError.malformed("")) {
      try referenceOutputs(Table(scale: 1, zeroPoint: 0), [codes, bare])
    }
  }
}

@Suite struct CastTests {
  private func cast<Target: TensorElement>(
    _ tensor: Tensor, to: Target.Type = Target.self
  ) throws -> [Target] {
    try referenceOutputs(Cast(to: Target.elementType), [TestOperand(tensor)])[0].elements()
  }

  @Test func floatsToIntegersTruncateAndSaturate() throws {
    let numbers = try Tensor(
      [9], [0.9, -0.9, 200.7, -200.7, .nan, .infinity, -.infinity, 1e30, 2_147_483_648] as [Float])
    #expect(try cast(numbers, to: Int8.self) == [0, 0, 127, -128, 0, 127, -128, 127, 127])
    #expect(try cast(numbers, to: UInt8.self) == [0, 0, 200, 0, 0, 255, 0, 255, 255])
    #expect(
      try cast(numbers, to: Int32.self)
        == [0, 0, 200, -200, 0, .max, .min, .max, .max])
    #expect(try cast(numbers, to: Int64.self)[5...] == [.max, .min, .max, 2_147_483_648])
    #expect(try cast(numbers, to: UInt64.self)[7...] == [.max, 2_147_483_648])
    let large = try Tensor([2], [9.3e18, -9.3e18] as [Double])
    #expect(try cast(large, to: Int64.self) == [.max, .min])
  }

  @Test func kernelsEqualTheLoops() throws {
    var generator = SeededGenerator(seed: 31)
    let sources = ElementType.allCases.filter { $0.isInteger || $0 == .bool }
    for source in sources {
      for target: ElementType in [.float32, .int8, .uint8, .int32, .int64] {
        for count in [1, 17, 67] {
          try expectKernelsEqualReference(
            Cast(to: target), [TestOperand(generator.bytes(source, [count]))], "\(source) \(target)"
          )
        }
      }
    }
    let numbers: [Float] = [-0.0, 0.9, .nan, .infinity, -.infinity, 1e30, 2_147_483_648, -3e9]
    for target: ElementType in [.bool, .int32, .int64] {
      try expectKernelsEqualReference(
        Cast(to: target), [TestOperand(Tensor([8], numbers))], "float32 \(target)")
    }
  }

  @Test func codesAreTheIntegersThatAreStored() throws {
    let codes = TestOperand(
      try Tensor([3], [-128, 0, 127] as [Int8]), .fixed(scale: 0.1, zeroPoint: 3))
    let result = try referenceOutputs(Cast(to: .int32), [codes])[0]
    #expect(result.elements(as: Int32.self) == [-128, 0, 127])
    try expectKernelsEqualReference(Cast(to: .int32), [codes], "codes")
  }

  @Test func integersKeepTheirLowBits() throws {
    let numbers = try Tensor([4], [-1, 300, 1 << 40, .min] as [Int64])
    #expect(try cast(numbers, to: UInt8.self) == [255, 44, 0, 0])
    #expect(try cast(numbers, to: Int16.self) == [-1, 300, 0, 0])
    #expect(try cast(numbers, to: UInt64.self) == [.max, 300, 1 << 40, 1 << 63])
    let odd = try Tensor([2], [16_777_217, 16_777_219] as [Int64])
    #expect(try cast(odd, to: Float.self) == [16_777_216, 16_777_220])
  }

  @Test func boolIsUnequalZero() throws {
    let numbers = try Tensor([4], [0, -0.0, .nan, 0.1] as [Float])
    #expect(try cast(numbers, to: Bool.self) == [false, false, true, true])
    #expect(try cast(Tensor([2], [true, false]), to: Float.self) == [1, 0])
    #expect(try cast(Tensor([2], [256, 0] as [Int32]), to: Bool.self) == [true, false])
  }

  /// Every float16 and bfloat16: exact to float32, and back the same bits.
  @Test(arguments: [ElementType.float16, .bfloat16])
  func everySmallFloatGoesThereAndBack(elementType: ElementType) throws {
    let patterns = (0...UInt16.max).map { $0 }
    let stored = try Tensor(
      elementType, [patterns.count], buffer: Tensor([patterns.count], patterns).buffer)
    let wide = try referenceOutputs(Cast(to: .float32), [TestOperand(stored)])[0]
    let back = try referenceOutputs(Cast(to: elementType), [TestOperand(wide)])[0]
    let numbers: [Float] = wide.elements()
    let bits: [UInt16] = try Tensor(.uint16, [patterns.count], buffer: back.buffer).elements()
    for pattern in patterns {
      let index = Int(pattern)
      if numbers[index].isNaN {
        #expect(bits[index] == (elementType == .float16 ? 0x7E00 : 0x7FC0))
      } else {
        #expect(bits[index] == pattern)
      }
      if elementType == .bfloat16 && !numbers[index].isNaN {
        #expect(numbers[index].bitPattern == UInt32(pattern) << 16)
      }
    }
    if elementType == .float16 {
      #expect(numbers[0x3C00] == 1 && numbers[0x7BFF] == 65504 && numbers[1] == 0x1p-24)
      #expect(numbers[0xC000] == -2 && numbers[0x7C00] == .infinity)
    }
  }

  @Test func halfRoundsToNearestEven() throws {
    let numbers: [Double] = [
      1 + 0x1p-11, 1 + 0x1p-11 + 0x1p-40, 1 + 3 * 0x1p-11, 65519.99, 65520, 0x1p-25,
      0x1p-25 + 0x1p-60, -1e300,
    ]
    let half = try referenceOutputs(
      Cast(to: .float16), [TestOperand(Tensor([numbers.count], numbers))])[0]
    let bits: [UInt16] = try Tensor(.uint16, half.shape, buffer: half.buffer).elements()
    #expect(bits == [0x3C00, 0x3C01, 0x3C02, 0x7BFF, 0x7C00, 0, 1, 0xFC00])
  }
}

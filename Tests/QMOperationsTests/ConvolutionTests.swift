import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct ConvolutionTests {
  // MARK: By hand

  @Test func floatByHand() throws {
    // 1-D, two input channels, window 2, one element of padding in front.
    let input = try Tensor([1, 2, 3], [1, 2, 3, 10, 20, 30] as [Float])
    let weights = try Tensor([1, 2, 2], [1, 2, 0.5, -1] as [Float])
    let operation = Convolution(
      order: .channelsFirst, strides: [1], dilations: [1],
      padding: .explicit(before: [1], after: [0]), groups: 1)
    let outputs = try referenceOutputs(operation, [TestOperand(input), TestOperand(weights)])
    #expect(outputs[0].shape == [1, 1, 3])
    #expect(outputs[0].elements(as: Float.self) == [-8, -10, -12] as [Float])
  }

  @Test func integersPadWithZero() throws {
    // Input codes stand for (code − 5)/2, weights for code/4: all inputs 1, all weights 0.25.
    let input = TestOperand(
      try Tensor([1, 2, 2, 1], [Int8](repeating: 7, count: 4)), .fixed(scale: 0.5, zeroPoint: 5))
    let weights = TestOperand(
      try Tensor([1, 3, 3, 1], [Int8](repeating: 1, count: 9)),
      .weights(bits: .eight, granularity: .perChannel(axis: 0)))
    let scales = TestOperand(try Tensor([1], [0.25] as [Float]))
    let operation = Convolution(
      order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
    let outputs = try referenceOutputs(operation, [input, weights, nil, scales])
    #expect(outputs[0].elements(as: Float.self) == [1, 1, 1, 1])
  }

  /// Six nested loops for two spatial axes with channels first, written on their own.
  private func naive(
    _ input: Tensor, _ weights: Tensor, stride: [Int], dilation: [Int], before: [Int],
    output: [Int], groups: Int
  ) -> [Double] {
    let (x, w) = (input.elements(as: Float.self), weights.elements(as: Float.self))
    let (xs, ws) = (input.shape, weights.shape)
    var result: [Double] = []
    for n in 0..<output[0] {
      for o in 0..<output[1] {
        for i in 0..<output[2] {
          for j in 0..<output[3] {
            var sum = 0.0
            for c in 0..<ws[1] {
              for p in 0..<ws[2] {
                for q in 0..<ws[3] {
                  let row = i * stride[0] + p * dilation[0] - before[0]
                  let column = j * stride[1] + q * dilation[1] - before[1]
                  if row < 0 || row >= xs[2] || column < 0 || column >= xs[3] { continue }
                  let channel = o / (output[1] / groups) * ws[1] + c
                  let number = x[((n * xs[1] + channel) * xs[2] + row) * xs[3] + column]
                  sum += Double(number) * Double(w[((o * ws[1] + c) * ws[2] + p) * ws[3] + q])
                }
              }
            }
            result.append(sum)
          }
        }
      }
    }
    return result
  }

  @Test func referenceEqualsNestedLoops() throws {
    var generator = SeededGenerator(seed: 3)
    let input = try generator.floats([2, 6, 9, 8])
    let weights = try generator.floats([4, 3, 3, 2])
    let operation = Convolution(
      order: .channelsFirst, strides: [2, 1], dilations: [1, 3],
      padding: .explicit(before: [1, 0], after: [2, 1]), groups: 2)
    let output = try referenceOutputs(operation, [TestOperand(input), TestOperand(weights)])[0]
    #expect(output.shape == [2, 4, 5, 6])
    let expected = naive(
      input, weights, stride: [2, 1], dilation: [1, 3], before: [1, 0], output: output.shape,
      groups: 2)
    for (found, expected) in zip(output.elements(as: Float.self), expected) {
      #expect(abs(Double(found) - expected) < 1e-5)
    }
  }

  private func channelsLast(_ tensor: Tensor) throws -> Tensor {
    let (shape, elements) = (tensor.shape, tensor.elements(as: Float.self))
    let plane = shape.dropFirst(2).reduce(1, *)
    var moved: [Float] = []
    for n in 0..<shape[0] {
      for position in 0..<plane {
        for c in 0..<shape[1] { moved.append(elements[(n * shape[1] + c) * plane + position]) }
      }
    }
    return try Tensor([shape[0]] + shape.dropFirst(2) + [shape[1]], moved)
  }

  @Test func bothOrdersGiveTheSameBits() throws {
    var generator = SeededGenerator(seed: 4)
    let input = try generator.floats([2, 6, 5, 7])
    let weights = try generator.floats([4, 3, 3, 2])
    var operation = Convolution(
      order: .channelsFirst, strides: [1, 2], dilations: [1, 1], padding: .sameLower, groups: 2)
    let first = try referenceOutputs(operation, [TestOperand(input), TestOperand(weights)])[0]
    operation.order = .channelsLast
    let last = try referenceOutputs(
      operation, [TestOperand(channelsLast(input)), TestOperand(channelsLast(weights))])[0]
    #expect(try channelsLast(first).isIdentical(to: last))
  }

  // MARK: Kernels

  /// A convolution of random form with channels last, and its weights' and output's extents.
  private func random(
    _ generator: inout SeededGenerator, _ test: ProductCase, _ input: [Int],
    output channels: Int, groups: Int
  ) throws -> (Convolution, weights: [Int], output: [Int])? {
    let rank = input.count - 2
    func numbers(_ range: ClosedRange<Int>) -> [Int] {
      (0..<rank).map { _ in Int.random(in: range, using: &generator) }
    }
    let window =
      generator.coin()
      ? [Int](repeating: generator.one(of: [1, 3]), count: rank)
      : numbers(1...(rank == 1 ? 9 : 4))
    let padding: Padding = generator.one(
      of: [
        .explicit(before: numbers(0...0), after: numbers(0...0)), .sameUpper, .sameLower,
        .explicit(before: numbers(0...3), after: numbers(0...3)),
      ])
    let operation = Convolution(
      order: .channelsLast, strides: generator.coin() ? numbers(1...1) : numbers(1...3),
      dilations: generator.coin() ? numbers(1...1) : numbers(1...3), padding: padding,
      groups: groups, epilogue: test.epilogue)
    let weights = [channels] + window + [input.last! / groups]
    let types = try? Convolution(
      order: .channelsLast, strides: operation.strides, dilations: operation.dilations,
      padding: padding, groups: groups
    ).outputTypes(for: [
      Operand(ValueType(.float32, Shape(input))), Operand(ValueType(.float32, Shape(weights))),
    ])
    guard let output = types?[0].shape.extents else { return nil }
    return (operation, weights, output)
  }

  private func check(
    _ generator: inout SeededGenerator, _ arithmetic: ProductCase.Arithmetic, count: Int,
    _ form: (inout SeededGenerator, Int) -> (input: [Int], output: Int, groups: Int)
  ) throws {
    var done = 0
    for number in 0..<(3 * count) where done < count {
      let test = ProductCase(&generator, arithmetic)
      let (input, channels, groups) = form(&generator, number)
      guard
        let (operation, weights, output) = try random(
          &generator, test, input, output: channels, groups: groups)
      else { continue }
      let inputs = try test.inputs(
        &generator, input: input, weights: weights, output: output, channels: channels,
        channelAxis: 0, parameters: number % 3 == 2 ? [] : [input[0]],
        constantWeights: generator.coin())
      try expectKernelsEqualReference(
        operation, inputs, "\(input) * \(weights), \(operation), \(test)")
      done += 1
    }
    #expect(done == count)
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .wide, .dynamic])
  func kernelsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 11)
    try check(&generator, arithmetic, count: 60) { (generator, number) in
      let channels = Int.random(in: 1...(number % 4 == 0 ? 67 : 9), using: &generator)
      let outputs = Int.random(in: 1...(number % 4 == 1 ? 67 : 20), using: &generator)
      let extents = (0..<2).map { _ in Int.random(in: 1...13, using: &generator) }
      return ([generator.one(of: [1, 2])] + extents + [channels], outputs, 1)
    }
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .wide, .dynamic])
  func groupsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 12)
    try check(&generator, arithmetic, count: 20) { (generator, _) in
      let groups = Int.random(in: 2...5, using: &generator)
      let channels = groups * Int.random(in: 1...9, using: &generator)
      let outputs = groups * Int.random(in: 2...20, using: &generator)
      return ([2, 7, Int.random(in: 3...9, using: &generator), channels], outputs, groups)
    }
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .dynamic])
  func depthwiseEqualsTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 13)
    try check(&generator, arithmetic, count: 30) { (generator, _) in
      let channels = Int.random(in: 2...67, using: &generator)
      let extents = (0..<2).map { _ in Int.random(in: 3...12, using: &generator) }
      return ([2] + extents + [channels], channels, channels)
    }
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .dynamic])
  func oneAndThreeSpatialAxesEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 14)
    try check(&generator, arithmetic, count: 24) { (generator, number) in
      let channels = Int.random(in: 1...9, using: &generator)
      let extents =
        number % 2 == 0
        ? [Int.random(in: 1...67, using: &generator)]
        : (0..<3).map { _ in Int.random(in: 2...6, using: &generator) }
      let isDepthwise = number % 3 == 0
      return (
        [2] + extents + [channels],
        isDepthwise ? channels : Int.random(in: 1...20, using: &generator),
        isDepthwise ? channels : 1
      )
    }
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed])
  func largeInputsAreCutWithoutEffect(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 15)
    var test = ProductCase(&generator, arithmetic)
    test.epilogue = Epilogue()
    test.residual = nil
    for (input, groups) in [([1, 50, 70, 19], 1), ([1, 3000, 19], 1), ([1, 70, 70, 19], 19)] {
      let rank = input.count - 2
      let weights =
        [19] + [Int](repeating: 3, count: rank) + [input.last! / groups]
      let operation = Convolution(
        order: .channelsLast, strides: [Int](repeating: 1, count: rank),
        dilations: [Int](repeating: 1, count: rank), padding: .sameUpper, groups: groups)
      let inputs = try test.inputs(
        &generator, input: input, weights: weights, output: input, channels: 19, channelAxis: 0,
        parameters: [1], constantWeights: true)
      try expectKernelsEqualReference(operation, inputs, "\(input), \(groups) groups")
    }
  }

  /// Windows along an axis behind which others have extent 1, few output channels, and samples
  /// that go together.
  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .dynamic])
  func thinInputsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 19)
    for number in 0..<30 {
      let test = ProductCase(&generator, arithmetic)
      let channels = Int.random(in: 1...3, using: &generator)
      let columns = Int.random(in: 1...(number % 3 == 0 ? 40 : 5), using: &generator)
      let window = Int.random(in: 1...40, using: &generator)
      let extent = window + Int.random(in: 0...30, using: &generator)
      let step = Int.random(in: 1...4, using: &generator)
      let isThin = number % 4 != 0
      let operation = Convolution(
        order: .channelsLast, strides: [step, 1], dilations: [1, 1],
        padding: .explicit(before: [1, 0], after: [0, 0]), groups: 1, epilogue: test.epilogue)
      let inputs = try test.inputs(
        &generator, input: [5, extent, isThin ? 1 : 3, channels],
        weights: [columns, window, 1, channels],
        output: [5, (extent + 1 - window) / step + 1, isThin ? 1 : 3, columns],
        channels: columns, channelAxis: 0, parameters: [5], constantWeights: generator.coin())
      try expectKernelsEqualReference(
        operation, inputs, "\(extent)×\(channels), \(window)/\(step) to \(columns), \(test)")
    }
  }

  /// Weights are packed before the run tells the extents of free axes, which decide how a window is
  /// cut into taps: 2 × 2 × 3 numbers may be two taps of six, or four of three, that take the same
  /// bytes of memory in another order.
  @Test(arguments: [[9, 7, 1, 1], [9, 2, 2, 1, 3]])
  func freeAxesMayTurnOutWide(weightsShape: [Int]) throws {
    var generator = SeededGenerator(seed: 20)
    let rank = weightsShape.count - 2
    let none = [Int](repeating: 0, count: rank)
    let ones = [Int](repeating: 1, count: rank)
    let operation = Convolution(
      order: .channelsLast, strides: ones, dilations: ones,
      padding: .explicit(before: none, after: none), groups: 1)
    let weights = TestOperand(
      try generator.tensor(weightsShape, in: Int8(-8)...7),
      .weights(bits: BitWidth(4)!, granularity: .perTensor), isConstant: true)
    let scale = TestOperand(try Tensor([1], [0.5] as [Float]), isConstant: true)
    let fixed = [2] + [Int](repeating: 12, count: rank - 1)
    let channels = weightsShape[rank + 1]
    for width in [1, 4] {
      let input = TestOperand(
        try generator.codes(fixed + [width, channels]), .fixed(scale: 0.1, zeroPoint: 3))
      let free = Operand(
        ValueType(
          .int8, Shape(fixed.map { .fixed($0) } + [.free("w"), .fixed(channels)]),
          input.type.quantization))
      let expected = try referenceOutputs(operation, [input, weights, nil, scale])[0]
      for set in KernelSet.available where set != .reference {
        let packed = try operation.pack(
          [free, weights.operand, nil, scale.operand], for: set, .fastest)
        let operands = [input.operand, weights.operand, nil, scale.operand]
        let kernel = try operation.kernel(
          for: operands, outputs: operation.outputTypes(for: operands), packed: packed,
          kernels: set)
        let output = try Tensor(zeros: .float32, expected.shape)
        let scratch = try Buffer.allocate(byteCount: kernel!.scratchByteCount(1))
        let sources = [input, weights, nil, scale].map { $0.map { $0.view.base } }
        try sources.withUnsafeBufferPointer { (sources) throws(QMError) in
          try [Optional(output.buffer.base)].withUnsafeBufferPointer { (outputs) throws(QMError) in
            try kernel!.run(
              Kernel.Memory(
                inputs: sources, outputs: outputs, scratch: scratch.base,
                threads: ThreadPool(threadCount: 1)))
          }
        }
        #expect(output.isIdentical(to: expected), "width \(width), \(set)")
      }
    }
  }

  /// Windows of 3 × 3 with steps of 1 over channels enough for the transforms of Winograd.
  @Test(arguments: [ProductCase.Arithmetic.fixed, .dynamic])
  func winogradEqualsTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 17)
    for number in 0..<40 {
      var test = ProductCase(&generator, arithmetic)
      if number % 2 == 0 { test.bits = 8 }
      let channels = number % 8 == 7 ? 67 : Int.random(in: 8...35, using: &generator)
      let columns = Int.random(in: 8...(number % 8 == 5 ? 67 : 20), using: &generator)
      let extents = (0..<2).map { _ in Int.random(in: 1...14, using: &generator) }
      let padding = (0..<4).map { _ in Int.random(in: 1...3, using: &generator) }
      let operation = Convolution(
        order: .channelsLast, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: Array(padding[..<2]), after: Array(padding[2...])), groups: 1,
        epilogue: test.epilogue)
      let output: [Int] = (0..<2).map { axis in
        let outside: Int = padding[axis] + padding[axis + 2]
        return extents[axis] + outside - 2
      }
      let inputs = try test.inputs(
        &generator, input: [2] + extents + [channels], weights: [columns, 3, 3, channels],
        output: [2] + output + [columns], channels: columns, channelAxis: 0,
        parameters: columns % 2 == 0 ? [] : [2],
        constantWeights: true)
      try expectKernelsEqualReference(
        operation, inputs, "\(extents)×\(channels) to \(columns), \(padding), \(test)")
    }
  }

  /// Whatever the way, the output can come with channels first. That it holds the same bits, every
  /// comparison with the reference checks as well.
  @Test func everyWayStoresChannelsFirst() throws {
    var generator = SeededGenerator(seed: 23)
    let forms: [(channels: Int, columns: Int, window: Int, groups: Int, way: String)] = [
      (16, 16, 3, 1, "Winograd"), (16, 16, 1, 1, "int8"), (3, 16, 5, 1, "int8"),
      (20, 20, 3, 20, "depthwise"), (4, 8, 3, 2, "int8"),
    ]
    for form in forms {
      let input = TestOperand(
        try generator.codes([1, 9, 7, form.channels]), .fixed(scale: 0.1, zeroPoint: 3))
      let weights = TestOperand(
        try generator.codes([form.columns, form.window, form.window, form.channels / form.groups]),
        .weights(bits: .eight, granularity: .perTensor), isConstant: true)
      let scale = TestOperand(try Tensor([1], [0.5] as [Float]), isConstant: true)
      let operation = Convolution(
        order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper,
        groups: form.groups)
      let operands = [input, weights, nil, scale].map { $0?.operand }
      for set in KernelSet.available where set != .reference {
        let kernel = try operation.kernel(
          for: operands, outputs: operation.outputTypes(for: operands),
          packed: operation.pack(operands, for: set, .fastest), kernels: set,
          transposing: [0, 3, 1, 2])
        let name = try #require(kernel?.name, "\(form)")
        #expect(name.contains(form.way) && name.hasSuffix("to channels first"), "\(name), \(form)")
      }
    }
  }

  /// Sums beyond the reach of the transforms take the direct way.
  @Test func winogradKeepsWithinItsBound() throws {
    for channels in [114, 115] {
      let input = TestOperand(
        try Tensor([1, 3, 3, channels], [Int8](repeating: 127, count: 9 * channels)),
        .fixed(scale: 0.1, zeroPoint: -128))
      let weights = TestOperand(
        try Tensor([8, 3, 3, channels], [Int8](repeating: -128, count: 72 * channels)),
        .weights(bits: .eight, granularity: .perTensor), isConstant: true)
      let operation = Convolution(
        order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
      let scale = TestOperand(try Tensor([1], [0.5] as [Float]), isConstant: true)
      try expectKernelsEqualReference(
        operation, [input, weights, nil, scale], "\(channels) channels")
      let operands = [input.operand, weights.operand, nil, scale.operand]
      let kernel = try operation.kernel(
        for: operands, outputs: operation.outputTypes(for: operands),
        packed: operation.pack(operands, for: .portable, .fastest), kernels: .portable)
      #expect(kernel?.name.contains("Winograd") == (channels == 114))
    }
  }

  @Test func infiniteWeightsMeetPaddingAlike() throws {
    let input = TestOperand(try Tensor([1, 2, 2, 1], [1, -0.0, 2, 3] as [Float]))
    let weights = TestOperand(
      try Tensor([1, 3, 3, 1], [.infinity, 1, 1, 1, 1, 1, 1, 1, -0.0] as [Float]))
    let operation = Convolution(
      order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
    let output = try referenceOutputs(operation, [input, weights])[0].elements(as: Float.self)
    #expect(output[0].isNaN && output[3] == .infinity)
    try expectKernelsEqualReference(operation, [input, weights], "infinite weight")
  }

  // MARK: Types

  private func shape(
    _ input: Shape, _ weights: Shape, strides: [Int] = [1, 1], dilations: [Int] = [1, 1],
    padding: Padding = .explicit(before: [0, 0], after: [0, 0]), groups: Int = 1
  ) throws -> Shape {
    try Convolution(
      order: .channelsFirst, strides: strides, dilations: dilations, padding: padding,
      groups: groups
    ).outputTypes(for: [
      Operand(ValueType(.float32, input)), Operand(ValueType(.float32, weights)),
    ])[0].shape
  }

  @Test func freeAxesPassThrough() throws {
    #expect(
      try shape([.free("batch"), 3, 8, .free("width")], [4, 3, 3, 3])
        == [.free("batch"), 4, 6, .free("floor((width-3)/1+1)")])
    #expect(
      try shape([1, 3, .free("height"), .free("width")], [4, 3, 3, 3], padding: .sameUpper)
        == [1, 4, .free("height"), .free("width")])
    #expect(
      try shape([1, .free("channels"), 7, 7], [4, 3, 2, 2], strides: [2, 3], padding: .sameLower)
        == [1, 4, 4, 3])
  }

  @Test func wrongFormsAreRefused() throws {
    #expect(throws: QMError.malformed("")) { try shape([1, 3, 8, 8], [4, 2, 3, 3]) }
    #expect(throws: QMError.malformed("")) { try shape([1, 3, 8, 8], [4, 3, 3]) }
    #expect(throws: QMError.malformed("")) { try shape([3, 8], [4, 3]) }
    #expect(throws: QMError.malformed("")) { try shape([1, 4, 8, 8], [3, 2, 3, 3], groups: 2) }
    #expect(throws: QMError.malformed("")) { try shape([1, 4, 8, 8], [4, 2, 3, 3], groups: 0) }
    #expect(throws: QMError.malformed("")) { try shape([1, 3, 2, 8], [4, 3, 3, 3]) }
    #expect(throws: QMError.malformed("")) { try shape([1, 3, 8, 8], [4, 3, 3, 3], strides: [1]) }
    #expect(throws: QMError.malformed("")) {
      try shape([1, 3, 8, 8], [4, 3, 3, 3], strides: [0, 1])
    }
    #expect(throws: QMError.malformed("")) {
      try shape([1, 3, 8, 8], [4, 3, 3, 3], dilations: [.max, 1])
    }
    #expect(throws: QMError.malformed("")) {
      try shape(
        [1, 3, 8, 8], [4, 3, 3, 3], padding: .explicit(before: [0, -1], after: [0, 0]))
    }
    #expect(throws: QMError.malformed("")) { try shape([1, 3, 1, 8], [4, 3, 3, 3]) }
    #expect(throws: QMError.malformed("")) { try shape([1, 3, 8, 8], [4, 3, 0, 3]) }
  }
}

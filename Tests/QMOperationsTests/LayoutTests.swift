import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct LayoutTests {
  private static let elementTypes: [ElementType] = [.int8, .int16, .float32, .int64]

  private func counting(_ shape: [Int]) throws -> Given {
    try Given(shape, (0..<shape.reduce(1, *)).map { Int32($0) })
  }

  private func elements(_ tensor: Tensor) -> [Int32] { tensor.elements() }

  // MARK: Reshape, Flatten, Squeeze, Unsqueeze

  private func reshaped(_ input: Shape, _ extents: [Int], zeroIsZero: Bool = false) throws -> Shape
  {
    try Reshape(zeroIsZero: zeroIsZero).outputTypes(for: [
      Operand(ValueType(.float32, input)),
      Operand(
        ValueType(.int64, [.fixed(extents.count)]),
        constant: try Tensor([extents.count], extents.map { Int64($0) })),
    ])[0].shape
  }

  @Test func reshapeSolvesWhatIsLeft() throws {
    #expect(try reshaped([2, 3, 4], [0, -1]) == [2, 12])
    #expect(try reshaped([2, 3, 4], [-1, 2, 1]) == [12, 2, 1])
    #expect(try reshaped([2, 0], [0, 0], zeroIsZero: true) == [0, 0])
    #expect(try reshaped([0, 3], [-1, 3]) == [0, 3])
    #expect(try reshaped([], [1, 1]) == [1, 1])
    for (input, extents) in [
      ([2, 3], [4]), ([2, 3], [-1, -1]), ([2, 3], [-1, 4]), ([2, 3], [2, 3, 0]), ([2, 3], [-2]),
      ([0, 3], [0, -1, 0]), ([2], [1 << 62, 1 << 62]),
    ] {
      #expect(throws: QMError.malformed("")) { try reshaped(Shape(input), extents) }
    }
  }

  @Test func reshapeKeepsFreeAxesThatCancel() throws {
    #expect(try reshaped([.free("N"), 3, 4], [0, -1]) == [.free("N"), 12])
    #expect(try reshaped([.free("N"), 64, 1, 1], [-1, 64]) == [.free("N"), 64])
    #expect(
      try reshaped([.free("N"), 4, .free("L")], [0, 0, 2, -1]) == [.free("N"), 4, 2, .free("")])
    #expect(try reshaped([.free("N"), .free("L"), 8], [-1, 8]).axes.map(\.extent) == [nil, 8])
    #expect(try reshaped([.free("N"), 6], [2, 3]) == [2, 3])
  }

  @Test func reshapeByUnknownExtentsKnowsItsRank() throws {
    let types = try Reshape().outputTypes(for: [
      Operand(ValueType(.int8, [2, 3], .fixed(scale: 0.5, zeroPoint: 3))),
      Operand(ValueType(.int64, [3])),
    ])
    let unknown = Shape([.free(""), .free(""), .free("")])
    #expect(types == [ValueType(.int8, unknown, .fixed(scale: 0.5, zeroPoint: 3))])
    #expect(throws: QMError.unsupported("")) {
      try Reshape().outputTypes(for: [
        Operand(ValueType(.int8, [2, 3])), Operand(ValueType(.int64, [.free("k")])),
      ])
    }
  }

  @Test func extentsChangeAndBytesStay() throws {
    let data = try counting([2, 1, 3, 1])
    let reshape = try Reshape().run([data, .integers([3, -1])])[0]
    #expect(reshape.shape == [3, 2] && elements(reshape) == [0, 1, 2, 3, 4, 5])
    #expect(try Flatten(axis: 0).run([data])[0].shape == [1, 6])
    #expect(try Flatten(axis: 2).run([data])[0].shape == [2, 3])
    #expect(try Flatten(axis: 4).run([data])[0].shape == [6, 1])
    #expect(try Squeeze(axes: nil).run([data])[0].shape == [2, 3])
    #expect(try Squeeze(axes: [3]).run([data])[0].shape == [2, 1, 3])
    #expect(try Unsqueeze(axes: [0, 5]).run([data])[0].shape == [1, 2, 1, 3, 1, 1])
    #expect(try Identity().run([data])[0].isIdentical(to: data.tensor))
    #expect(Reshape().keepsBytes && !Transpose(permutation: []).keepsBytes)
    for operation: any OperationProtocol in [
      Flatten(axis: 5), Flatten(axis: -1), Squeeze(axes: [0]), Squeeze(axes: [3, 1]),
      Squeeze(axes: [4]), Unsqueeze(axes: [6, 7]), Unsqueeze(axes: [1, 1]),
    ] {
      #expect(throws: QMError.malformed("")) { try operation.types(for: [data]) }
    }
  }

  @Test func flattenNamesAFreeAxisThatStandsAlone() throws {
    let operand = Operand(ValueType(.float32, [.free("N"), 3, .free("L"), 1]))
    #expect(try Flatten(axis: 1).outputTypes(for: [operand])[0].shape == [.free("N"), .free("")])
    #expect(try Flatten(axis: 2).outputTypes(for: [operand])[0].shape == [.free(""), .free("L")])
    // Without axes a dynamic axis is taken as another extent than 1.
    #expect(
      try Squeeze(axes: nil).outputTypes(for: [operand])[0].shape == [.free("N"), 3, .free("L")])
  }

  @Test func movesRefuseCodesWhoseScalesWouldHaveToMove() throws {
    let dynamic = Operand(ValueType(.int8, [2, 3], .dynamic(axes: 1)))
    let weights = Operand(
      ValueType(.int8, [2, 3], .weights(bits: .eight, granularity: .perChannel(axis: 0))))
    for operand in [dynamic, weights] {
      #expect(throws: QMError.unsupported("")) {
        try Transpose(permutation: [1, 0]).outputTypes(for: [operand])
      }
      #expect(try Identity().outputTypes(for: [operand]) == [operand.type])
    }
  }

  @Test func valuesBeyondTheLimitsAreRefused() throws {
    let large = Operand(ValueType(.float32, Shape([1 << 38, 2])))
    #expect(throws: QMError.malformed("")) { try Flatten(axis: 1).outputTypes(for: [large]) }
    // Strides over an extent of 0 must not overflow either.
    let hollow = Operand(ValueType(.float32, Shape([0, 1 << 62, 1 << 62])))
    #expect(throws: QMError.malformed("")) {
      try Transpose(permutation: [2, 1, 0]).outputTypes(for: [hollow])
    }
    let deep = Operand(ValueType(.int8, Shape(Array(repeating: 1, count: 33))))
    #expect(throws: QMError.malformed("")) { try Identity().outputTypes(for: [deep]) }
  }

  // MARK: Transpose

  @Test func transposeMovesAxes() throws {
    let output = try Transpose(permutation: [2, 0, 1]).run([counting([2, 3, 2])])[0]
    #expect(output.shape == [2, 2, 3])
    #expect(elements(output) == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11])
    #expect(throws: QMError.malformed("")) {
      try Transpose(permutation: [0, 0]).types(for: [counting([2, 3])])
    }
    #expect(throws: QMError.malformed("")) {
      try Transpose(permutation: [0]).types(for: [counting([2, 3])])
    }
  }

  @Test(arguments: LayoutTests.elementTypes)
  func transposesOfEverySizeAgree(elementType: ElementType) throws {
    var generator = SeededGenerator(seed: 1)
    for rows in [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 67] {
      for columns in [1, 2, 3, 4, 6, 8, 9, 15, 16, 17, 32, 35, 67] {
        let data = Given(try generator.bytes(elementType, [2, rows, columns]))
        let turned = try Transpose(permutation: [0, 2, 1]).run([data])[0]
        let back = try Transpose(permutation: [0, 2, 1]).run([Given(turned)])[0]
        #expect(back.isIdentical(to: data.tensor))
      }
    }
  }

  @Test func everyOrderOfFourAxesAgreesAndHasAnInverse() throws {
    var generator = SeededGenerator(seed: 2)
    let data = Given(try generator.bytes(.float32, [3, 5, 4, 6]))
    for permutation in permutations(of: [0, 1, 2, 3]) {
      let inverse = (0..<4).map { permutation.firstIndex(of: $0)! }
      let turned = try Transpose(permutation: permutation).run([data])[0]
      let back = try Transpose(permutation: inverse).run([Given(turned)])[0]
      #expect(back.isIdentical(to: data.tensor))
    }
  }

  private func permutations(of elements: [Int]) -> [[Int]] {
    guard elements.count > 1 else { return [elements] }
    return elements.indices.flatMap { index -> [[Int]] in
      var rest = elements
      let first = rest.remove(at: index)
      return permutations(of: rest).map { [first] + $0 }
    }
  }

  @Test func largeTransposesAreSharedAmongThreads() throws {
    var generator = SeededGenerator(seed: 3)
    let data = Given(try generator.bytes(.int8, [3, 251, 509]))
    _ = try Transpose(permutation: [1, 2, 0]).run([data])
    _ = try Transpose(permutation: [2, 1, 0]).run([data])
  }

  // MARK: Concatenate and Split

  @Test(arguments: LayoutTests.elementTypes)
  func splittingUndoesJoining(elementType: ElementType) throws {
    var generator = SeededGenerator(seed: 4)
    for axis in 0..<3 {
      let sizes = [1, 4, 0, 67, 2]
      let parts = try sizes.map { size in
        var shape = [3, 5, 7]
        shape[axis] = size
        return Given(try generator.bytes(elementType, shape))
      }
      let joined = try Concatenate(axis: axis).run(parts)[0]
      #expect(joined.shape[axis] == 74)
      let split = try Split(axis: axis, sizes: .explicit(sizes)).run([Given(joined)])
      for (part, given) in zip(split, parts) { #expect(part.isIdentical(to: given.tensor)) }
    }
  }

  @Test func joinedTypesAreUnified() throws {
    func joined(_ shapes: [Shape], axis: Int) throws -> Shape {
      try Concatenate(axis: axis).outputTypes(
        for: shapes.map { Operand(ValueType(.int8, $0)) })[0].shape
    }
    #expect(try joined([[.free("N"), 3], [.free(""), 4]], axis: 1) == [.free("N"), 7])
    #expect(try joined([[.free("N"), 3], [2, 4]], axis: 1) == [2, 7])
    #expect(try joined([[.free("N"), 3], [2, 3]], axis: 0) == [.free(""), 3])
    #expect(throws: QMError.malformed("")) { try joined([[2, 3], [3, 3]], axis: 1) }
    #expect(throws: QMError.malformed("")) { try joined([[2, 3], [2]], axis: 0) }
    #expect(throws: QMError.malformed("")) { try joined([[2, 3]], axis: 2) }
    #expect(throws: QMError.malformed("")) { try joined([], axis: 0) }
    #expect(throws: QMError.malformed("")) {
      try Concatenate(axis: 0).outputTypes(for: [
        Operand(ValueType(.int8, [1], .fixed(scale: 1, zeroPoint: 0))),
        Operand(ValueType(.int8, [1], .fixed(scale: 1, zeroPoint: 1))),
      ])
    }
  }

  @Test func equalPartsLeaveTheRestToTheLast() throws {
    func sizes(_ extent: Int, parts: Int) throws -> [Int] {
      try Split(axis: 0, sizes: .equal(parts: parts)).types(for: [counting([extent])]).map {
        $0.shape.extents![0]
      }
    }
    #expect(try sizes(6, parts: 3) == [2, 2, 2])
    #expect(try sizes(7, parts: 3) == [3, 3, 1])
    #expect(try sizes(0, parts: 2) == [0, 0])
    #expect(throws: QMError.malformed("")) { try sizes(5, parts: 4) }
    #expect(throws: QMError.malformed("")) { try sizes(5, parts: 0) }
    for wrong in [[2, 2], [6], [-1, 6], [Int.max, Int.max], []] {
      #expect(throws: QMError.malformed("")) {
        try Split(axis: 0, sizes: .explicit(wrong)).types(for: [counting([5])])
      }
    }
  }

  // MARK: Slice

  private func sliced(
    _ data: Given, _ starts: [Int], _ ends: [Int], _ axes: [Int]?, _ steps: [Int]?
  )
    throws -> Tensor
  {
    try Slice().run([
      data, .integers(starts), .integers(ends), axes.map { try .integers($0) },
      steps.map { try .integers($0) },
    ])[0]
  }

  @Test func slicesClampAsNumPyDoes() throws {
    let data = try counting([10])
    #expect(elements(try sliced(data, [2], [5], nil, nil)) == [2, 3, 4])
    #expect(elements(try sliced(data, [-3], [Int.max], [0], [1])) == [7, 8, 9])
    #expect(elements(try sliced(data, [8], [-100], [-1], [-3])) == [8, 5, 2])
    #expect(elements(try sliced(data, [Int.max], [Int.min], nil, [-4])) == [9, 5, 1])
    #expect(elements(try sliced(data, [Int.min], [Int.max], nil, [Int.max])) == [0])
    #expect(elements(try sliced(data, [Int.max], [Int.min], nil, [Int.min])) == [9])
    #expect(elements(try sliced(data, [4], [4], nil, nil)) == [])
    #expect(elements(try sliced(data, [0], [7], nil, [3])) == [0, 3, 6])
    #expect(elements(try sliced(counting([0]), [5], [-9], nil, [-1])) == [])
    #expect(throws: QMError.malformed("")) { try sliced(data, [0], [1], nil, [0]) }
    #expect(throws: QMError.malformed("")) { try sliced(data, [0], [1], [1], nil) }
    #expect(throws: QMError.malformed("")) { try sliced(data, [0, 0], [1, 1], [0, -1], nil) }
    #expect(throws: QMError.malformed("")) { try sliced(data, [0, 0], [1], nil, nil) }
  }

  @Test(arguments: LayoutTests.elementTypes) func slicesAgree(elementType: ElementType) throws {
    var generator = SeededGenerator(seed: 5)
    for columns in 1...67 {
      let data = Given(try generator.bytes(elementType, [5, 3, columns]))
      _ = try sliced(data, [1, 0], [4, columns], [0, 2], [2, 1])
      _ = try sliced(data, [-1, columns], [-100, -100], [1, 2], [-1, -2])
      _ = try sliced(data, [1], [Int.max], [2], [3])
    }
  }

  @Test func slicesOfFreeAxes() throws {
    func extent(_ start: Int, _ end: Int, step: Int = 1) throws -> Shape.Axis {
      func constant(_ value: Int) throws -> Operand {
        Operand(ValueType(.int64, [1]), constant: try Tensor([1], [Int64(value)]))
      }
      return try Slice().outputTypes(for: [
        Operand(ValueType(.float32, [7, .free("L")])), constant(start), constant(end),
        constant(1), constant(step),
      ])[0].shape[1]
    }
    #expect(try extent(0, Int.max) == .free("L"))
    #expect(try extent(0, Int(Int32.max)) == .free("L"))
    #expect(try extent(0, 5) == .free(""))
    #expect(try extent(0, Int.max, step: 2) == .free(""))
    #expect(throws: QMError.malformed("")) { try extent(0, 5, step: 0) }
    let unknown = Operand(ValueType(.int64, [1]))
    let shape = try Slice().outputTypes(for: [
      Operand(ValueType(.float32, [7, 8])), unknown, unknown,
    ])[0].shape
    #expect(shape == [.free(""), 8])
  }

  // MARK: Pad

  private func padded(
    _ data: Given, _ pads: [Int], _ mode: Pad.Mode, constant: Given? = nil, axes: [Int]? = nil
  ) throws -> Tensor {
    try Pad(mode).run([data, .integers(pads), constant, axes.map { try .integers($0) }])[0]
  }

  @Test func padsRepeatByMode() throws {
    let data = try counting([4])
    let seven = try Given([], [Int32(7)])
    #expect(elements(try padded(data, [2, 1], .constant)) == [0, 0, 0, 1, 2, 3, 0])
    #expect(elements(try padded(data, [1, 1], .constant, constant: seven)) == [7, 0, 1, 2, 3, 7])
    #expect(elements(try padded(data, [3, 2], .reflect)) == [3, 2, 1, 0, 1, 2, 3, 2, 1])
    #expect(elements(try padded(data, [2, 1], .edge)) == [0, 0, 0, 1, 2, 3, 3])
    #expect(
      elements(try padded(data, [5, 6], .wrap)) == [3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    #expect(elements(try padded(data, [-1, 2], .edge)) == [1, 2, 3, 3, 3])
    #expect(elements(try padded(data, [-1, -2], .constant)) == [1])
    #expect(elements(try padded(data, [2, -1], .reflect)) == [2, 1, 0, 1, 2])
    for (pads, mode) in [
      ([-3, -2], Pad.Mode.constant), ([4, 0], .reflect), ([-2, 2], .reflect), ([-4, 1], .edge),
      ([-4, 1], .wrap), ([Int.min, 0], .constant), ([Int.max, Int.max], .constant), ([1], .edge),
    ] {
      #expect(throws: QMError.malformed("")) { try padded(data, pads, mode) }
    }
  }

  @Test(arguments: [Pad.Mode.constant, .reflect, .edge, .wrap])
  func padsAgreeAndCroppingUndoesThem(mode: Pad.Mode) throws {
    var generator = SeededGenerator(seed: 6)
    for elementType in Self.elementTypes {
      for columns in [2, 3, 8, 16, 33] {
        let data = Given(try generator.bytes(elementType, [2, 3, columns]))
        let wide = try padded(data, [1, 2, 0, 0, 1, 1], mode)
        let back = try padded(Given(wide), [-1, -2, 0, 0, -1, -1], .constant)
        #expect(back.isIdentical(to: data.tensor))
        _ = try padded(data, [1, -1, 1, -1], mode, axes: [-1, 1])
      }
    }
  }

  @Test func codesArePaddedWithANumberOnTheirGrid() throws {
    let grid = Quantization.fixed(scale: 0.5, zeroPoint: 10)
    let data = Given(try Tensor([2], [Int8(1), 2]), grid)
    let zero: [Int8] = try padded(data, [1, 0], .constant).elements()
    #expect(zero == [10, 1, 2])
    let real: [Int8] = try padded(data, [1, 1], .constant, constant: Given([], [Float(-3.3)]))
      .elements()
    #expect(real == [3, 1, 2, 3])
    #expect(throws: QMError.malformed("")) {
      try padded(data, [1, 1], .constant, constant: Given([], [Int8(3)]))
    }
  }

  // MARK: Gather

  @Test(arguments: LayoutTests.elementTypes) func gathersAgree(elementType: ElementType) throws {
    var generator = SeededGenerator(seed: 7)
    let data = Given(try generator.bytes(elementType, [4, 5, 6]))
    let indices = try Given([2, 3], [Int64(0), -1, 3, 2, -4, 1])
    for axis in 0..<3 {
      let output = try Gather(axis: axis).run([data, indices])[0]
      #expect(output.shape.count == 4)
    }
    _ = try Gather(axis: 1).run([data, Given([], [Int32(-5)])])
    _ = try Gather(axis: 1).run([data, Given([0], [Int32]())])
  }

  @Test func gatherPicksAndRefusesWhatIsOutside() throws {
    let data = try counting([3, 2])
    #expect(
      elements(try Gather(axis: 0).run([data, Given([2], [Int64(-1), 0])])[0]) == [4, 5, 0, 1])
    #expect(elements(try Gather(axis: 1).run([data, Given([], [Int64(1)])])[0]) == [1, 3, 5])
    for index in [Int64(3), -4, .min, .max] {
      #expect(throws: QMError.malformed("")) {
        try Gather(axis: 0).types(for: [data, Given([1], [index])])
      }
    }
    // Not a constant: found by the run, by the reference loops and by the kernel.
    let operands: [Operand?] = [
      Operand(ValueType(.int32, [3, 2])), Operand(ValueType(.int64, [1])),
    ]
    let gather = Gather(axis: 0)
    let types = try gather.outputTypes(for: operands)
    let indices = try Tensor([1], [Int64(3)])
    let output = try Tensor(zeros: .int32, [1, 2])
    let views = [data.tensor, indices].map {
      TensorView($0.elementType, $0.shape, base: $0.buffer.base)
    }
    #expect(throws: QMError.invalidInput("")) {
      try gather.reference(views, [TensorView(.int32, [1, 2], base: output.buffer.base)])
    }
    let kernel = try #require(
      try gather.kernel(for: operands, outputs: types, packed: nil, kernels: .best))
    let inputs = views.map { Optional($0.base) }
    let outputs = [Optional(output.buffer.base)]
    #expect(throws: QMError.invalidInput("")) {
      try inputs.withUnsafeBufferPointer { inputs in
        try outputs.withUnsafeBufferPointer { outputs in
          try kernel.run(
            Kernel.Memory(
              inputs: inputs, outputs: outputs, scratch: output.buffer.base,
              threads: ThreadPool(threadCount: 1)))
        }
      }
    }
  }

  // MARK: Expand, Tile, ShapeOperation, Fill

  @Test func expandBroadcasts() throws {
    let data = try counting([3, 1])
    let output = try Expand().run([data, .integers([2, 1, 2])])[0]
    #expect(output.shape == [2, 3, 2])
    #expect(elements(output) == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
    #expect(try Expand().run([data, .integers([1])])[0].shape == [3, 1])
    #expect(try Expand().run([data, .integers([3, 0])])[0].shape == [3, 0])
    #expect(throws: QMError.malformed("")) { try Expand().types(for: [data, .integers([2, 2])]) }
    #expect(throws: QMError.malformed("")) { try Expand().types(for: [data, .integers([-1, 2])]) }
  }

  @Test(arguments: LayoutTests.elementTypes)
  func expandsAndTilesAgree(elementType: ElementType) throws {
    var generator = SeededGenerator(seed: 8)
    for columns in [1, 2, 3, 8, 17, 33] {
      let data = Given(try generator.bytes(elementType, [2, 1, columns]))
      _ = try Expand().run([data, .integers([3, 2, 5, columns])])
      _ = try Tile().run([data, .integers([2, 3, 2])])
      let column = Given(try generator.bytes(elementType, [columns, 1]))
      _ = try Expand().run([column, .integers([columns, 35])])
    }
  }

  @Test func tileRepeats() throws {
    let output = try Tile().run([counting([2, 2]), .integers([2, 3])])[0]
    #expect(output.shape == [4, 6])
    #expect(elements(output).prefix(12) == [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3])
    #expect(try Tile().run([counting([2, 2]), .integers([0, 3])])[0].shape == [0, 6])
    #expect(throws: QMError.malformed("")) {
      try Tile().types(for: [counting([2]), .integers([-1])])
    }
    #expect(throws: QMError.malformed("")) {
      try Tile().types(for: [counting([2]), .integers([1, 1])])
    }
    #expect(throws: QMError.malformed("")) {
      try Tile().types(for: [counting([2]), .integers([Int.max])])
    }
  }

  @Test func extentsBecomeValuesAndBack() throws {
    let data = try counting([2, 3, 4])
    func extents(_ start: Int, _ end: Int?) throws -> [Int64] {
      try ShapeOperation(start: start, end: end).run([data])[0].elements()
    }
    #expect(try extents(0, nil) == [2, 3, 4])
    #expect(try extents(-2, nil) == [3, 4])
    #expect(try extents(1, -1) == [3])
    #expect(try extents(-9, 9) == [2, 3, 4])
    #expect(try extents(2, 1) == [])
    #expect(try extents(Int.min, Int.max) == [2, 3, 4])

    let partly = Shape([.free("N"), 3, 4])
    #expect(try ShapeOperation().value(for: partly) == nil)
    let known: [Int64]? = try ShapeOperation(start: 1).value(for: partly)?.elements()
    #expect(known == [3, 4])

    let filled = try Fill().outputTypes(for: [
      Operand(ValueType(.int64, [2]), constant: try Tensor([2], [Int64(3), 5])),
      Operand(ValueType(.float32, [])),
    ])
    #expect(filled == [ValueType(.float32, [3, 5])])
  }

  @Test(arguments: LayoutTests.elementTypes) func fillRepeats(elementType: ElementType) throws {
    var generator = SeededGenerator(seed: 9)
    let element = Given(try generator.bytes(elementType, [1]))
    let output = try Fill().run([.integers([3, 67]), element])[0]
    let size = elementType.byteCount
    for index in 0..<201 {
      #expect(output.bytes[index * size..<(index + 1) * size].elementsEqual(element.tensor.bytes))
    }
  }
}

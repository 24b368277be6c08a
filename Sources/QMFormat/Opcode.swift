import QMOperations
import QMTensor

/// The number of an operation in a file. Raw values never change and are never used again.
package enum Opcode: UInt8, CaseIterable {
  // Products, from 1.
  case convolution = 1
  case matrixMultiply = 2
  case recurrent = 3
  /// A convolution whose input has gaps.
  case transposedConvolution = 8
  // Element-wise, from 16.
  case unary = 16
  case binary = 17
  case table = 18
  case cast = 19
  case comparison = 20
  case logic = 21
  case classification = 22
  case select = 23
  // Over windows and axes, from 32.
  case pooling = 32
  case reduction = 33
  case softmax = 34
  case batchNormalization = 35
  case layerNormalization = 36
  case argExtreme = 37
  case topK = 38
  case cumulativeSum = 39
  case resize = 40
  case groupNormalization = 41
  // Moving elements, from 64.
  case identity = 64
  case reshape = 65
  case flatten = 66
  case squeeze = 67
  case unsqueeze = 68
  case transpose = 69
  case concatenate = 70
  case split = 71
  case slice = 72
  case pad = 73
  case gather = 74
  case expand = 75
  case tile = 76
  case shapeOf = 77
  case fill = 78
  case progression = 79
  case oneHot = 80
  case triangle = 81
  case gatherElements = 82
  case gatherND = 83
  case scatterElements = 84
  case scatterND = 85
  case nonZero = 86
  case depthToSpace = 87
  case spaceToDepth = 88
  case choice = 89
  // Between real numbers and codes, from 96.
  case quantize = 96
  case dynamicQuantize = 97
  case dequantize = 98
}

extension Operation {
  package var opcode: Opcode {
    switch self {
    case .convolution(let operation):
      operation.isTransposed ? .transposedConvolution : .convolution
    case .matrixMultiply: .matrixMultiply
    case .recurrent: .recurrent
    case .unary: .unary
    case .binary: .binary
    case .table: .table
    case .cast: .cast
    case .comparison: .comparison
    case .logic: .logic
    case .classification: .classification
    case .select: .select
    case .pooling: .pooling
    case .reduction: .reduction
    case .softmax: .softmax
    case .batchNormalization: .batchNormalization
    case .layerNormalization: .layerNormalization
    case .argExtreme: .argExtreme
    case .topK: .topK
    case .cumulativeSum: .cumulativeSum
    case .resize: .resize
    case .groupNormalization: .groupNormalization
    case .identity: .identity
    case .reshape: .reshape
    case .flatten: .flatten
    case .squeeze: .squeeze
    case .unsqueeze: .unsqueeze
    case .transpose: .transpose
    case .concatenate: .concatenate
    case .split: .split
    case .slice: .slice
    case .pad: .pad
    case .gather: .gather
    case .expand: .expand
    case .tile: .tile
    case .shapeOf: .shapeOf
    case .fill: .fill
    case .progression: .progression
    case .oneHot: .oneHot
    case .triangle: .triangle
    case .gatherElements: .gatherElements
    case .gatherND: .gatherND
    case .scatterElements: .scatterElements
    case .scatterND: .scatterND
    case .nonZero: .nonZero
    case .depthToSpace: .depthToSpace
    case .spaceToDepth: .spaceToDepth
    case .choice: .choice
    case .quantize: .quantize
    case .dynamicQuantize: .dynamicQuantize
    case .dequantize: .dequantize
    }
  }

  /// Writes the attributes; ``init(_:from:)`` reads them in the same order.
  func encodeAttributes(to writer: inout ByteWriter) {
    switch self {
    case .convolution(let operation):
      writer.code(operation.order)
      writer.list(operation.strides)
      writer.list(operation.dilations)
      writer.padding(operation.padding)
      writer.signed(operation.groups)
      writer.epilogue(operation.epilogue)
      if operation.isTransposed { writer.list(operation.spacing) }
    case .matrixMultiply(let operation):
      writer.code(operation.rightLayout)
      writer.epilogue(operation.epilogue)
    case .recurrent(let operation):
      writer.code(operation.cell)
      writer.code(operation.direction)
      writer.varint(operation.functions.count)
      for function in operation.functions { writer.function(function) }
      writer.flag(operation.clip != nil)
      if let clip = operation.clip { writer.float(clip) }
      writer.code(operation.inputs)
    case .unary(let operation):
      writer.function(operation.function)
      writer.output(operation.output)
    case .binary(let operation):
      writer.code(operation.function)
      writer.function(operation.then)
      writer.output(operation.output)
    case .table(let operation):
      writer.float(operation.scale)
      writer.signed(Int(operation.zeroPoint))
    case .cast(let operation):
      writer.code(operation.elementType)
    case .pooling(let operation):
      writer.code(operation.kind)
      writer.code(operation.order)
      writer.list(operation.window)
      writer.list(operation.strides)
      writer.list(operation.dilations)
      writer.padding(operation.padding)
      writer.flag(operation.roundsUp)
      writer.output(operation.output)
    case .reduction(let operation):
      writer.code(operation.kind)
      writer.list(operation.axes)
      writer.flag(operation.keepsAxes)
      writer.output(operation.output)
    case .softmax(let operation):
      writer.code(operation.kind)
      writer.signed(operation.axis)
      writer.output(operation.output)
    case .batchNormalization(let operation):
      writer.code(operation.order)
      writer.float(operation.epsilon)
    case .layerNormalization(let operation):
      writer.signed(operation.axis)
      writer.float(operation.epsilon)
      writer.output(operation.output)
    case .reshape(let operation):
      writer.flag(operation.zeroIsZero)
    case .flatten(let operation):
      writer.signed(operation.axis)
    case .squeeze(let operation):
      writer.flag(operation.axes != nil)
      if let axes = operation.axes { writer.list(axes) }
    case .unsqueeze(let operation):
      writer.list(operation.axes)
    case .transpose(let operation):
      writer.list(operation.permutation)
    case .concatenate(let operation):
      writer.signed(operation.axis)
    case .split(let operation):
      writer.signed(operation.axis)
      switch operation.sizes {
      case .explicit(let sizes):
        writer.byte(0)
        writer.list(sizes)
      case .equal(let parts):
        writer.byte(1)
        writer.signed(parts)
      }
    case .pad(let operation):
      writer.code(operation.mode)
    case .gather(let operation):
      writer.signed(operation.axis)
    case .shapeOf(let operation):
      writer.signed(operation.start)
      writer.flag(operation.end != nil)
      if let end = operation.end { writer.signed(end) }
    case .quantize(let operation):
      writer.code(operation.elementType)
      writer.float(operation.scale)
      writer.signed(Int(operation.zeroPoint))
    case .dynamicQuantize(let operation):
      writer.signed(operation.axes)
    case .resize(let operation):
      switch operation.mode {
      case .nearest(let rounding):
        writer.byte(0)
        writer.code(rounding)
      case .linear: writer.byte(1)
      case .cubic(let coefficient):
        writer.byte(2)
        writer.float(coefficient)
      }
      writer.code(operation.coordinates)
      writer.flag(operation.antialias)
      writer.flag(operation.excludesOutside)
      writer.float(operation.extrapolation)
      writer.list(operation.axes)
    case .groupNormalization(let operation):
      writer.signed(operation.groups)
      writer.code(operation.order)
      writer.float(operation.epsilon)
      writer.output(operation.output)
    case .gatherElements(let operation):
      writer.signed(operation.axis)
    case .gatherND(let operation):
      writer.signed(operation.batchAxes)
    case .scatterElements(let operation):
      writer.signed(operation.axis)
      writer.code(operation.reduction)
    case .scatterND(let operation):
      writer.code(operation.reduction)
    case .depthToSpace(let operation):
      writer.signed(operation.block)
      writer.flag(operation.channelsComeFirst)
      writer.code(operation.order)
    case .spaceToDepth(let operation):
      writer.signed(operation.block)
      writer.flag(operation.channelsComeFirst)
      writer.code(operation.order)
    case .comparison(let operation):
      writer.code(operation.function)
    case .logic(let operation):
      writer.code(operation.function)
    case .classification(let operation):
      writer.code(operation.kind)
    case .argExtreme(let operation):
      writer.code(operation.kind)
      writer.signed(operation.axis)
      writer.flag(operation.keepsAxis)
      writer.flag(operation.takesLast)
    case .topK(let operation):
      writer.signed(operation.axis)
      writer.flag(operation.takesLargest)
    case .cumulativeSum(let operation):
      writer.signed(operation.axis)
      writer.flag(operation.excludesOwn)
      writer.flag(operation.fromEnd)
    case .oneHot(let operation):
      writer.signed(operation.axis)
    case .triangle(let operation):
      writer.flag(operation.isUpper)
    case .identity, .slice, .expand, .tile, .fill, .dequantize, .select, .progression,
      .nonZero, .choice:
      break
    }
  }

  /// The operation with a number and the attributes that follow in the file.
  init(_ opcode: Opcode, from reader: inout ByteReader) throws(QMError) {
    switch opcode {
    case .convolution:
      self = .convolution(
        Convolution(
          order: try reader.code("channel order", as: ChannelOrder.self),
          strides: try reader.list(), dilations: try reader.list(),
          padding: try reader.padding(), groups: try reader.signed(),
          epilogue: try reader.epilogue()))
    case .transposedConvolution:
      let operation = Convolution(
        order: try reader.code("channel order", as: ChannelOrder.self),
        strides: try reader.list(), dilations: try reader.list(),
        padding: try reader.padding(), groups: try reader.signed(),
        epilogue: try reader.epilogue(), spacing: try reader.list())
      guard operation.isTransposed else {
        throw reader.malformed("a transposed convolution without gaps")
      }
      self = .convolution(operation)
    case .matrixMultiply:
      self = .matrixMultiply(
        MatrixMultiply(
          rightLayout: try reader.code("layout", as: RightLayout.self),
          epilogue: try reader.epilogue()))
    case .recurrent:
      self = .recurrent(
        Recurrent(
          try reader.code("cell", as: Recurrent.Cell.self),
          direction: try reader.code("direction", as: Recurrent.Direction.self),
          functions: try reader.functions(), clip: try reader.flag() ? try reader.float() : nil,
          inputs: try reader.code("inputs", as: Recurrent.Inputs.self)))
    case .unary:
      self = .unary(Unary(try reader.function(), output: try reader.output()))
    case .binary:
      self = .binary(
        Binary(
          try reader.code("function", as: BinaryFunction.self),
          then: try reader.optionalFunction(), output: try reader.output()))
    case .table:
      self = .table(Table(scale: try reader.float(), zeroPoint: try reader.zeroPoint()))
    case .cast:
      self = .cast(Cast(to: try reader.code("element type", as: ElementType.self)))
    case .pooling:
      self = .pooling(
        Pooling(
          kind: try reader.code("kind", as: Pooling.Kind.self),
          order: try reader.code("channel order", as: ChannelOrder.self),
          window: try reader.list(), strides: try reader.list(), dilations: try reader.list(),
          padding: try reader.padding(), roundsUp: try reader.flag(),
          output: try reader.output()))
    case .reduction:
      self = .reduction(
        Reduction(
          try reader.code("kind", as: Reduction.Kind.self), axes: try reader.list(),
          keepsAxes: try reader.flag(), output: try reader.output()))
    case .softmax:
      self = .softmax(
        Softmax(
          try reader.code("kind", as: Softmax.Kind.self), axis: try reader.signed(),
          output: try reader.output()))
    case .batchNormalization:
      self = .batchNormalization(
        BatchNormalization(
          order: try reader.code("channel order", as: ChannelOrder.self),
          epsilon: try reader.float()))
    case .layerNormalization:
      self = .layerNormalization(
        LayerNormalization(
          axis: try reader.signed(), epsilon: try reader.float(), output: try reader.output()))
    case .identity: self = .identity(Identity())
    case .reshape: self = .reshape(Reshape(zeroIsZero: try reader.flag()))
    case .flatten: self = .flatten(Flatten(axis: try reader.signed()))
    case .squeeze: self = .squeeze(Squeeze(axes: try reader.flag() ? try reader.list() : nil))
    case .unsqueeze: self = .unsqueeze(Unsqueeze(axes: try reader.list()))
    case .transpose: self = .transpose(Transpose(permutation: try reader.list()))
    case .concatenate: self = .concatenate(Concatenate(axis: try reader.signed()))
    case .split:
      let axis = try reader.signed()
      let sizes: Split.Sizes =
        try reader.flag() ? .equal(parts: try reader.signed()) : .explicit(try reader.list())
      self = .split(Split(axis: axis, sizes: sizes))
    case .slice: self = .slice(Slice())
    case .pad: self = .pad(Pad(try reader.code("mode", as: Pad.Mode.self)))
    case .gather: self = .gather(Gather(axis: try reader.signed()))
    case .expand: self = .expand(Expand())
    case .tile: self = .tile(Tile())
    case .shapeOf:
      let start = try reader.signed()
      self = .shapeOf(ShapeOf(start: start, end: try reader.flag() ? try reader.signed() : nil))
    case .fill: self = .fill(Fill())
    case .quantize:
      self = .quantize(
        Quantize(
          try reader.code("element type", as: ElementType.self), scale: try reader.float(),
          zeroPoint: try reader.zeroPoint()))
    case .dynamicQuantize: self = .dynamicQuantize(DynamicQuantize(axes: try reader.signed()))
    case .dequantize: self = .dequantize(Dequantize())
    case .comparison:
      self = .comparison(Compare(try reader.code("function", as: Compare.Function.self)))
    case .logic: self = .logic(Logic(try reader.code("function", as: Logic.Function.self)))
    case .classification:
      self = .classification(Classification(try reader.code("kind", as: Classification.Kind.self)))
    case .select: self = .select(Select())
    case .argExtreme:
      self = .argExtreme(
        ArgExtreme(
          try reader.code("kind", as: ArgExtreme.Kind.self), axis: try reader.signed(),
          keepsAxis: try reader.flag(), takesLast: try reader.flag()))
    case .topK:
      self = .topK(TopK(axis: try reader.signed(), takesLargest: try reader.flag()))
    case .cumulativeSum:
      self = .cumulativeSum(
        CumulativeSum(
          axis: try reader.signed(), excludesOwn: try reader.flag(), fromEnd: try reader.flag()))
    case .progression: self = .progression(Progression())
    case .resize:
      let mode: Resize.Mode
      switch try reader.byte() {
      case 0: mode = .nearest(try reader.code("rounding", as: Resize.Rounding.self))
      case 1: mode = .linear
      case 2: mode = .cubic(coefficient: try reader.float())
      case let number: throw reader.malformed("mode \(number) is unknown")
      }
      let coordinates = try reader.code("coordinates", as: Resize.Coordinates.self)
      let (antialias, excludesOutside) = (try reader.flag(), try reader.flag())
      let extrapolation = try reader.float()
      self = .resize(
        Resize(
          mode, coordinates, axes: try reader.list(), antialias: antialias,
          excludesOutside: excludesOutside, extrapolation: extrapolation))
    case .groupNormalization:
      self = .groupNormalization(
        GroupNormalization(
          groups: try reader.signed(),
          order: try reader.code("channel order", as: ChannelOrder.self),
          epsilon: try reader.float(), output: try reader.output()))
    case .gatherElements: self = .gatherElements(GatherElements(axis: try reader.signed()))
    case .gatherND: self = .gatherND(GatherND(batchAxes: try reader.signed()))
    case .scatterElements:
      self = .scatterElements(
        ScatterElements(
          axis: try reader.signed(), try reader.code("reduction", as: ScatterReduction.self)))
    case .scatterND:
      self = .scatterND(ScatterND(try reader.code("reduction", as: ScatterReduction.self)))
    case .nonZero: self = .nonZero(NonZero())
    case .depthToSpace:
      self = .depthToSpace(
        DepthToSpace(
          block: try reader.signed(), channelsComeFirst: try reader.flag(),
          order: try reader.code("channel order", as: ChannelOrder.self)))
    case .spaceToDepth:
      self = .spaceToDepth(
        SpaceToDepth(
          block: try reader.signed(), channelsComeFirst: try reader.flag(),
          order: try reader.code("channel order", as: ChannelOrder.self)))
    case .choice: self = .choice(Choice())
    case .oneHot: self = .oneHot(OneHot(axis: try reader.signed()))
    case .triangle: self = .triangle(Triangle(isUpper: try reader.flag()))
    }
  }

  /// Every integer among the attributes: what a file may hold of them is bounded before an
  /// operation computes with them.
  var attributeIntegers: [Int] {
    switch self {
    case .convolution(let operation):
      operation.strides + operation.dilations + operation.padding.integers + [operation.groups]
        + operation.spacing
    case .pooling(let operation):
      operation.window + operation.strides + operation.dilations + operation.padding.integers
    case .reduction(let operation): operation.axes
    case .softmax(let operation): [operation.axis]
    case .layerNormalization(let operation): [operation.axis]
    case .flatten(let operation): [operation.axis]
    case .squeeze(let operation): operation.axes ?? []
    case .unsqueeze(let operation): operation.axes
    case .transpose(let operation): operation.permutation
    case .concatenate(let operation): [operation.axis]
    case .split(let operation):
      switch operation.sizes {
      case .explicit(let sizes): sizes + [operation.axis]
      case .equal(let parts): [operation.axis, parts]
      }
    case .gather(let operation): [operation.axis]
    case .shapeOf(let operation): [operation.start, operation.end ?? 0]
    case .dynamicQuantize(let operation): [operation.axes]
    case .argExtreme(let operation): [operation.axis]
    case .topK(let operation): [operation.axis]
    case .cumulativeSum(let operation): [operation.axis]
    case .oneHot(let operation): [operation.axis]
    case .resize(let operation): operation.axes
    case .groupNormalization(let operation): [operation.groups]
    case .gatherElements(let operation): [operation.axis]
    case .gatherND(let operation): [operation.batchAxes]
    case .scatterElements(let operation): [operation.axis]
    case .depthToSpace(let operation): [operation.block]
    case .spaceToDepth(let operation): [operation.block]
    case .comparison, .logic, .classification, .select, .progression, .triangle, .scatterND,
      .nonZero, .choice:
      []
    case .matrixMultiply, .recurrent, .unary, .binary, .table, .cast, .batchNormalization,
      .identity,
      .reshape, .slice, .pad, .expand, .tile, .fill, .quantize, .dequantize:
      []
    }
  }

  /// Every real number among the attributes that is not the scale of a grid.
  var attributeFloats: [Float] {
    switch self {
    case .convolution(let operation): operation.epilogue.functions.flatMap(\.parameters)
    case .matrixMultiply(let operation): operation.epilogue.functions.flatMap(\.parameters)
    case .recurrent(let operation):
      operation.functions.flatMap(\.parameters) + [operation.clip ?? 0]
    case .unary(let operation): operation.function.parameters
    case .binary(let operation): operation.then?.parameters ?? []
    case .batchNormalization(let operation): [operation.epsilon]
    case .layerNormalization(let operation): [operation.epsilon]
    case .groupNormalization(let operation): [operation.epsilon]
    case .resize(let operation):
      if case .cubic(let coefficient) = operation.mode {
        [operation.extrapolation, coefficient]
      } else {
        [operation.extrapolation]
      }
    case .table, .cast, .pooling, .reduction, .softmax, .identity, .reshape, .flatten, .squeeze,
      .unsqueeze, .transpose, .concatenate, .split, .slice, .pad, .gather, .expand, .tile,
      .shapeOf, .fill, .quantize, .dynamicQuantize, .dequantize, .comparison, .logic,
      .classification, .select, .argExtreme, .topK,
      .cumulativeSum, .progression, .oneHot, .triangle, .gatherElements, .gatherND,
      .scatterElements, .scatterND, .nonZero, .depthToSpace, .spaceToDepth, .choice:
      []
    }
  }

  /// The grid on which the operation stores what it computes, where it has one.
  var outputGrid: OutputEncoding {
    switch self {
    case .convolution(let operation): operation.epilogue.output
    case .matrixMultiply(let operation): operation.epilogue.output
    case .unary(let operation): operation.output
    case .binary(let operation): operation.output
    case .table(let operation):
      .quantized(.int8, scale: operation.scale, zeroPoint: operation.zeroPoint)
    case .pooling(let operation): operation.output
    case .reduction(let operation): operation.output
    case .softmax(let operation): operation.output
    case .layerNormalization(let operation): operation.output
    case .groupNormalization(let operation): operation.output
    case .quantize(let operation):
      .quantized(operation.elementType, scale: operation.scale, zeroPoint: operation.zeroPoint)
    case .recurrent, .cast, .batchNormalization, .identity, .reshape, .flatten, .squeeze,
      .unsqueeze,
      .transpose, .concatenate, .split, .slice, .pad, .gather, .expand, .tile, .shapeOf, .fill,
      .dynamicQuantize, .dequantize, .comparison, .logic, .classification, .select, .argExtreme,
      .topK,
      .cumulativeSum, .progression, .oneHot, .triangle, .resize, .gatherElements, .gatherND,
      .scatterElements, .scatterND, .nonZero, .depthToSpace, .spaceToDepth, .choice:
      .float32
    }
  }
}

extension Padding {
  fileprivate var integers: [Int] {
    switch self {
    case .explicit(let before, let after): before + after
    case .sameUpper, .sameLower: []
    }
  }
}

extension ByteWriter {
  fileprivate mutating func list(_ numbers: [Int]) {
    varint(numbers.count)
    for number in numbers { signed(number) }
  }

  fileprivate mutating func padding(_ padding: Padding) {
    switch padding {
    case .explicit(let before, let after):
      byte(0)
      list(before)
      list(after)
    case .sameUpper: byte(1)
    case .sameLower: byte(2)
    }
  }

  /// 0 says that there is none, another number is one more than the function's code.
  fileprivate mutating func function(_ function: UnaryFunction?) {
    guard let function else { return byte(0) }
    byte(function.code + 1)
    let parameters = function.parameters
    byte(UInt8(parameters.count))
    for parameter in parameters { float(parameter) }
  }

  fileprivate mutating func output(_ output: OutputEncoding) {
    switch output {
    case .float32: byte(0)
    case .quantized(let elementType, let scale, let zeroPoint):
      code(elementType)
      float(scale)
      signed(Int(zeroPoint))
    }
  }

  fileprivate mutating func epilogue(_ epilogue: Epilogue) {
    function(epilogue.function)
    function(epilogue.then)
    output(epilogue.output)
  }
}

extension ByteReader {
  fileprivate mutating func list() throws(QMError) -> [Int] {
    let count = try count(of: "numbers", limit: .max)
    var numbers: [Int] = []
    numbers.reserveCapacity(count)
    for _ in 0..<count { numbers.append(try signed()) }
    return numbers
  }

  fileprivate mutating func padding() throws(QMError) -> Padding {
    switch try byte() {
    case 0: return .explicit(before: try list(), after: try list())
    case 1: return .sameUpper
    case 2: return .sameLower
    case let kind: throw malformed("padding \(kind) is unknown")
    }
  }

  mutating func zeroPoint() throws(QMError) -> Int32 { Int32(try signed()) }

  fileprivate mutating func optionalFunction() throws(QMError) -> UnaryFunction? {
    let code = try byte()
    guard code > 0 else { return nil }
    let count = try byte()
    var parameters: [Float] = []
    for _ in 0..<count { parameters.append(try float()) }
    guard let function = UnaryFunction(code: code - 1, parameters: parameters) else {
      throw malformed("function \(code - 1) with \(count) parameters is unknown")
    }
    return function
  }

  fileprivate mutating func functions() throws(QMError) -> [UnaryFunction] {
    let count = try count(of: "functions", limit: .max)
    var functions: [UnaryFunction] = []
    for _ in 0..<count { functions.append(try function()) }
    return functions
  }

  fileprivate mutating func function() throws(QMError) -> UnaryFunction {
    guard let function = try optionalFunction() else {
      throw malformed("a function is missing")
    }
    return function
  }

  fileprivate mutating func output() throws(QMError) -> OutputEncoding {
    let code = try byte()
    guard code > 0 else { return .float32 }
    guard let elementType = ElementType(rawValue: code) else {
      throw malformed("element type \(code) is unknown")
    }
    return .quantized(elementType, scale: try float(), zeroPoint: try zeroPoint())
  }

  fileprivate mutating func epilogue() throws(QMError) -> Epilogue {
    Epilogue(
      function: try optionalFunction(), then: try optionalFunction(), output: try output())
  }
}

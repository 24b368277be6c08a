import QMTensor
import QMTestSupport

/// One node of each operator, by family.
extension NetworkGenerator {
  typealias Attributes = [(name: String, value: ONNXNetwork.Attribute)]

  /// Appends a node of an operator, whose first operand is the value before if there is one.
  mutating func add(_ operation: String) throws {
    if try addElementwise(operation) || addProduct(operation) || addAttention(operation)
      || addConvolution(operation) || addWindow(operation)
      || addAlongAxes(operation) || addNormalization(operation) || addRecurrent(operation)
      || addLayout(operation) || addSelection(operation) || addConstant(operation)
    {
      return
    }
    // Unary functions and everything else that reads one value.
    let x = try data(chance(0.8) ? Self.floats : Self.all)
    let known = [
      "LeakyRelu": ["alpha"], "Elu": ["alpha"], "Celu": ["alpha"], "ThresholdedRelu": ["alpha"],
      "HardSigmoid": ["alpha", "beta"], "Selu": ["alpha", "gamma"], "Shrink": ["lambd", "bias"],
      "Swish": ["alpha"],
    ]
    var attributes: Attributes = []
    for name in known[operation] ?? [] {
      attributes += maybe(name, .number(pick([0, 0.5, 1, -1, 2])))
    }
    attributes += maybe("beyond", .number(1), 0.005)
    add(operation, [x.name], attributes)
  }

  private mutating func addElementwise(_ operation: String) throws -> Bool {
    switch operation {
    case "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Equal", "Less", "LessOrEqual", "Greater",
      "GreaterOrEqual", "PRelu":
      let x = try data(operation == "Equal" ? Self.all : Self.numbers)
      let other = try operand(x.elementType, broadcast(x.shape))
      let attributes: Attributes =
        operation == "Mod"
        ? maybe("fmod", .integer(1), x.elementType.isFloatingPoint ? 0.9 : 0.3) : []
      let isTurned = operation != "PRelu" && chance(0.3)
      add(operation, isTurned ? [other.name, x.name] : [x.name, other.name], attributes)
    case "And", "Or", "Xor":
      let x = try data([.bool])
      add(operation, [x.name, try operand(.bool, broadcast(x.shape)).name])
    case "Not": add(operation, [try data([.bool]).name])
    case "BitwiseNot": add(operation, [try data([.int32, .int64, .uint8, .int8]).name])
    case "Sum", "Mean", "Min", "Max":
      let x = try data()
      var names = [x.name]
      for _ in 0..<integer(0...2) {
        names.append(try operand(x.elementType, broadcast(x.shape)).name)
      }
      add(operation, names)
    case "Where":
      let x = try data(Self.all)
      let other = try operand(x.elementType, broadcast(x.shape))
      let condition = try operand(.bool, broadcast(x.shape))
      add(
        operation, [condition.name] + (chance(0.5) ? [x.name, other.name] : [other.name, x.name]))
    case "Clip":
      let x = try data()
      if opset < 11 {
        add(operation, [x.name], maybe("min", .number(-0.5)) + maybe("max", .number(1)))
      } else {
        let bounds = try [0, 1].map { bound -> String in
          if chance(0.3) { return "" }
          return constant(try Tensor([], [Int32(bound)]).converted(to: x.elementType)).name
        }
        add(operation, [x.name] + bounds)
      }
    case "Cast":
      add(
        operation, [try data(Self.all).name], [("to", .integer(pick([1, 2, 3, 6, 7, 9, 10, 11])))])
    case "CastLike":
      add(operation, [try data(Self.all).name, try operand(pick(Self.all), [1]).name])
    case "Dropout": add(operation, [try data().name], maybe("ratio", .number(0.5), 0.1))
    case "Identity", "Shape", "Size":
      let x = try data(Self.all)
      let bounds =
        operation == "Shape" && opset >= 15
        ? maybe("start", .integer(integer(-3...3)), 0.3)
          + maybe("end", .integer(integer(-3...6)), 0.3)
        : []
      add(operation, [x.name], bounds)
    case "IsInf":
      add(operation, [try data().name], flag("detect_negative") + flag("detect_positive"))
    case "Gelu":
      add(operation, [try data().name], maybe("approximate", .text(pick(["tanh", "none"]))))
    default: return false
    }
    return true
  }

  private mutating func addProduct(_ operation: String) throws -> Bool {
    switch operation {
    case "MatMul":
      let x = try data(Self.floats)
      let inner = x.shape.last ?? 1
      let columns = extents(1...1)[0]
      var shape = [inner, columns]
      if chance(0.15) {
        shape = [inner]
      } else if x.shape.count > 2, chance(0.4) {
        shape = broadcast(Array(x.shape.dropLast(2))) + shape
      } else if chance(0.1) {
        shape = extents(1...2) + shape
      }
      add(operation, [x.name, try operand(x.elementType, shape, constant: 0.7).name])
    case "Gemm":
      let x = try data(Self.floats, rank: 2...2)
      let (isTurned, isWeightTurned) = (chance(0.3), chance(0.5))
      let rows = x.shape.count == 2 ? x.shape[isTurned ? 1 : 0] : 2
      let inner = x.shape.count == 2 ? x.shape[isTurned ? 0 : 1] : 2
      let columns = extents(1...1)[0]
      let weights = try operand(
        x.elementType, isWeightTurned ? [columns, inner] : [inner, columns], constant: 0.7)
      var inputs = [x.name, weights.name]
      if chance(0.6) { inputs.append(try operand(x.elementType, broadcast([rows, columns])).name) }
      add(
        operation, inputs,
        (isTurned ? [("transA", .integer(1))] : [])
          + (isWeightTurned ? [("transB", .integer(1))] : [])
          + maybe("alpha", .number(pick([0.5, 0, 2])), 0.2)
          + maybe("beta", .number(pick([0.5, 0, 2])), 0.2))
    case "Einsum":
      let equation = pick([
        "ij,jk->ik", "ij->ji", "bij,bjk->bik", "ij,ij->", "i,j->ij", "bij->b", "ij,kj->ik",
      ])
      let terms = equation.split(separator: "-")[0].split(separator: ",")
      var sizes: [Character: Int] = [:]
      var names: [String] = []
      for term in terms {
        let shape = term.map { letter in
          sizes[letter]
            ?? {
              let extent = extents(1...1)[0]
              sizes[letter] = extent
              return extent
            }()
        }
        names.append(try operand(.float32, shape).name)
      }
      add(operation, names, [("equation", .text(equation))])
    default: return false
    }
    return true
  }

  private mutating func addAttention(_ operation: String) throws -> Bool {
    switch operation {
    case "Attention":
      let (batch, heads, queries, keys, width) = (
        extents(1...1)[0], pick([1, 2]), extents(1...1)[0], extents(1...1)[0], pick([1, 2, 4])
      )
      let isFlat = chance(0.3)
      func shape(_ length: Int) -> [Int] {
        isFlat ? [batch, length, heads * width] : [batch, heads, length, width]
      }
      var inputs = [try operand(.float32, shape(queries), constant: 0).name]
      for _ in 0..<2 { inputs.append(try operand(.float32, shape(keys)).name) }
      if chance(0.4) {
        inputs.append(
          try operand(pick([.float32, .bool]), broadcast([batch, heads, queries, keys])).name)
      }
      add(
        operation, inputs,
        (isFlat ? [("q_num_heads", .integer(heads)), ("kv_num_heads", .integer(heads))] : [])
          + flag("is_causal") + maybe("softcap", .number(2), 0.2)
          + maybe("scale", .number(0.5), 0.2))
    case "RotaryEmbedding":
      let (length, width) = (extents(1...1)[0], pick([2, 4]))
      let x = try operand(.float32, [pick([0, 1, 2]), pick([1, 2]), length, width], constant: 0)
      let tables = try (0..<2).map { _ in
        try operand(.float32, [3, width / 2], constant: 0.9).name
      }
      let places = try integers(
        (0..<x.shape[0] * length).map { $0 % 3 }, shape: [x.shape[0], length])
      add(operation, [x.name] + tables + [places], flag("interleaved"))
    default: return false
    }
    return true
  }

  /// Kernel, strides, dilations and padding over `axisCount` axes.
  private mutating func window(_ axisCount: Int, kernel: [Int]?) -> Attributes {
    func values(_ range: ClosedRange<Int>, _ count: Int) -> ONNXNetwork.Attribute {
      let length = chance(0.03) ? count + 1 : count
      return .integers((0..<length).map { _ in integer(range) })
    }
    let edge = chance(0.05) ? -1 : 0
    var attributes = maybe("strides", values(1 + edge...3, axisCount))
    if chance(0.25) { attributes += maybe("dilations", values(1 + edge...2, axisCount), 1) }
    if chance(0.25) {
      attributes.append(
        ("auto_pad", .text(pick(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]))))
    } else {
      attributes += maybe("pads", values(edge...2, 2 * axisCount), 0.6)
    }
    if let kernel { attributes += maybe("kernel_shape", .integers(kernel), 0.6) }
    return attributes
  }

  private mutating func addConvolution(_ operation: String) throws -> Bool {
    switch operation {
    case "Conv", "ConvTranspose":
      let x = try data(Self.floats, rank: 3...5)
      let channels = x.shape.count > 1 ? x.shape[1] : 1
      let group = chance(0.3) ? max(channels, 1) : chance(0.05) ? integer(0...3) : 1
      let outputs = pick([1, 2, 3]) * (operation == "Conv" ? max(group, 1) : 1)
      let kernel = (0..<max(x.shape.count - 2, 0)).map { _ in chance(0.03) ? 0 : integer(1...3) }
      let inside = channels / max(group, 1)
      let shape = (operation == "Conv" ? [outputs, inside] : [channels, outputs]) + kernel
      var inputs = [x.name, try operand(x.elementType, shape, constant: 0.85).name]
      if chance(0.5) {
        let count = operation == "Conv" ? outputs : outputs * max(group, 1)
        inputs.append(try operand(x.elementType, [count], constant: 0.85).name)
      }
      var attributes = window(kernel.count, kernel: kernel)
      if group != 1 { attributes.append(("group", .integer(group))) }
      if operation == "ConvTranspose" {
        attributes += maybe("output_padding", .integers(kernel.map { _ in integer(0...1) }), 0.2)
        attributes += maybe("output_shape", .integers(kernel.map { _ in integer(1...6) }), 0.1)
      }
      add(operation, inputs, attributes)
    default: return false
    }
    return true
  }

  private mutating func addWindow(_ operation: String) throws -> Bool {
    switch operation {
    case "MaxPool", "AveragePool", "LpPool":
      let x = try data(rank: 3...5)
      let kernel = (0..<max(x.shape.count - 2, 0)).map { _ in chance(0.02) ? 0 : integer(1...3) }
      add(
        operation, [x.name],
        [("kernel_shape", .integers(kernel))] + window(kernel.count, kernel: nil)
          + (opset >= 10 ? flag("ceil_mode") : [])
          + (operation == "AveragePool" ? flag("count_include_pad") : [])
          + (operation == "LpPool" ? maybe("p", .integer(integer(1...3))) : []))
    case "GlobalAveragePool", "GlobalMaxPool": add(operation, [try data(rank: 3...5).name])
    case "Resize", "Upsample":
      let x = try data(rank: 2...4)
      let isSized = operation == "Resize" && opset >= 11 && chance(0.4)
      let scales = x.shape.enumerated().map { axis, _ -> Float in
        axis < 2 && chance(0.8) ? 1 : pick([1, 2, 0.5, 1.5, 0.3, 3])
      }
      var attributes: Attributes = maybe("mode", .text(pick(["nearest", "linear", "cubic"])))
      if operation == "Resize", opset >= 11 {
        attributes += maybe(
          "coordinate_transformation_mode",
          .text(
            pick([
              "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
              "half_pixel_symmetric",
            ])))
        attributes += maybe(
          "nearest_mode",
          .text(pick(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])))
        attributes += flag("antialias") + flag("exclude_outside")
        if chance(0.1) {
          attributes.append(
            ("keep_aspect_ratio_policy", .text(pick(["not_larger", "not_smaller"]))))
        }
      }
      if operation == "Upsample", opset < 9 {
        add(operation, [x.name], attributes + [("scales", .numbers(scales))])
      } else {
        let factors = constant(try Tensor([scales.count], scales)).name
        let isShort = operation == "Upsample" || opset < 11
        let sizes = try integers(x.shape.map { $0 == 0 ? 0 : chance(0.5) ? $0 : integer(0...5) })
        add(
          operation,
          isSized
            ? [x.name, "", "", sizes] : isShort ? [x.name, factors] : [x.name, "", factors],
          attributes)
      }
    case "DepthToSpace", "SpaceToDepth":
      let block = pick([1, 2, 2, 3])
      var shape = extents(4...4)
      if operation == "DepthToSpace" {
        shape[1] *= block * block
      } else {
        for axis in 2..<4 { shape[axis] *= block }
      }
      let x = chance(0.2) ? try data() : try operand(pick(Self.floats), shape)
      add(
        operation, [x.name],
        [("blocksize", .integer(block))]
          + (operation == "DepthToSpace" ? maybe("mode", .text(pick(["DCR", "CRD"]))) : []))
    default: return false
    }
    return true
  }

  private mutating func addAlongAxes(_ operation: String) throws -> Bool {
    if operation.hasPrefix("Reduce") {
      let x = try data()
      try addWithAxes(
        operation, x, axes(x.shape.count), inputSince: operation == "ReduceSum" ? 13 : 18,
        flag("keepdims") + (opset >= 18 ? flag("noop_with_empty_axes") : []))
      return true
    }
    switch operation {
    case "Softmax", "LogSoftmax", "Hardmax", "Flatten":
      let x = try data(Self.floats)
      let axis = operation == "Flatten" && chance(0.1) ? x.shape.count : axis(x.shape.count)
      add(operation, [x.name], maybe("axis", .integer(axis)))
    case "LpNormalization":
      let x = try data(Self.floats)
      add(
        operation, [x.name],
        maybe("axis", .integer(axis(x.shape.count))) + maybe("p", .integer(integer(1...2))))
    case "ArgMax", "ArgMin":
      let x = try data()
      add(
        operation, [x.name],
        maybe("axis", .integer(axis(x.shape.count))) + flag("keepdims")
          + (opset >= 12 ? flag("select_last_index") : []))
    case "CumSum":
      let x = try data()
      add(
        operation, [x.name, try integers([axis(x.shape.count)], shape: [])],
        flag("exclusive") + flag("reverse"))
    case "TopK":
      let x = try data()
      let axis = axis(x.shape.count)
      let position = axis < 0 ? axis + x.shape.count : axis
      let extent = x.shape.indices.contains(position) ? x.shape[position] : 1
      let count = chance(0.1) ? extent + 1 : integer(0...extent)
      let attributes = maybe("axis", .integer(axis), 0.8)
      if opset < 10 {
        add(operation, [x.name], attributes + [("k", .integer(count))], outputs: 2)
      } else {
        let flags = opset >= 11 ? flag("largest") + flag("sorted") : []
        add(operation, [x.name, try integers([count])], attributes + flags, outputs: 2)
      }
    case "Trilu":
      let x = try data(Self.all, rank: 2...5)
      var inputs = [x.name]
      if chance(0.5) { inputs.append(try integers([integer(-4...4)], shape: [])) }
      add(operation, inputs, flag("upper"))
    case "MeanVarianceNormalization":
      let x = try data(Self.floats)
      add(operation, [x.name], maybe("axes", .integers(axes(x.shape.count))))
    case "EyeLike":
      add(operation, [try data(rank: 2...2).name], maybe("k", .integer(integer(-3...3))))
    default: return false
    }
    return true
  }

  /// A node whose axes are an attribute in old operator sets and an input in newer ones.
  mutating func addWithAxes(
    _ operation: String, _ x: Operand, _ axes: [Int]?, inputSince first: Int,
    _ attributes: Attributes = []
  ) throws {
    guard let axes, chance(0.85) else {
      add(operation, [x.name], attributes)
      return
    }
    if opset >= first {
      add(operation, [x.name, try integers(axes, constant: 0.95)], attributes)
    } else {
      add(operation, [x.name], attributes + [("axes", .integers(axes))])
    }
  }
}

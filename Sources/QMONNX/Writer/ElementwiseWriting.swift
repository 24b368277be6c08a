import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ unary: Unary, _ node: Graph.Node) throws(QMError) {
    guard unary.output == .float32 else {
      throw .unsupported("a function that stores codes; raise the program first")
    }
    let x = try input(node, 0)
    switch unary.function {
    case .relu: try emit("Relu", [x], node)
    case .clip(let minimum, let maximum):
      let largest = Float.greatestFiniteMagnitude
      var operands = [x, "", ""]
      if minimum != -largest { operands[1] = try constant(minimum, stepName(node, "minimum")) }
      if maximum != largest { operands[2] = try constant(maximum, stepName(node, "maximum")) }
      try emit("Clip", operands, node)
    case .leakyRelu(let slope): try emit("LeakyRelu", [x], node, [("alpha", .float(slope))])
    case .thresholdedRelu(let threshold):
      try emit("ThresholdedRelu", [x], node, [("alpha", .float(threshold))])
    case .elu(let alpha): try emit("Elu", [x], node, [("alpha", .float(alpha))])
    case .selu(let alpha, let gamma):
      try emit("Selu", [x], node, [("alpha", .float(alpha)), ("gamma", .float(gamma))])
    case .celu(let alpha): try emit("Celu", [x], node, [("alpha", .float(alpha))])
    case .hardSigmoid(let alpha, let beta):
      try emit("HardSigmoid", [x], node, [("alpha", .float(alpha)), ("beta", .float(beta))])
    case .hardSwish: try emit("HardSwish", [x], node)
    case .sigmoid: try emit("Sigmoid", [x], node)
    case .silu:
      let gate = add("Sigmoid", [x], as: try stepName(node, "gate"))
      try emit("Mul", [x, gate], node)
    case .tanh: try emit("Tanh", [x], node)
    case .erf: try emit("Erf", [x], node)
    case .gelu: try emit("Gelu", [x], node)
    case .geluTanh: try emit("Gelu", [x], node, [("approximate", .text("tanh"))])
    case .softplus: try emit("Softplus", [x], node)
    case .softsign: try emit("Softsign", [x], node)
    case .mish: try emit("Mish", [x], node)
    case .exponential: try emit("Exp", [x], node)
    case .logarithm: try emit("Log", [x], node)
    case .squareRoot: try emit("Sqrt", [x], node)
    case .reciprocal: try emit("Reciprocal", [x], node)
    case .square: try emit("Mul", [x, x], node)
    case .absolute: try emit("Abs", [x], node)
    case .negate: try emit("Neg", [x], node)
    case .sign: try emit("Sign", [x], node)
    case .floor: try emit("Floor", [x], node)
    case .ceiling: try emit("Ceil", [x], node)
    case .round: try emit("Round", [x], node)
    case .sine: try emit("Sin", [x], node)
    case .cosine: try emit("Cos", [x], node)
    case .tangent: try emit("Tan", [x], node)
    case .affine(let scale, let offset):
      let factor = try constant(scale, stepName(node, "factor"))
      guard offset != 0 else { return try emit("Mul", [x, factor], node) }
      if scale == 1 {
        return try emit("Add", [x, constant(offset, stepName(node, "offset"))], node)
      }
      let product = add("Mul", [x, factor], as: try stepName(node, "scaled"))
      try emit("Add", [product, constant(offset, stepName(node, "offset"))], node)
    }
  }

  mutating func write(_ binary: Binary, _ node: Graph.Node) throws(QMError) {
    let isFloat = graph[node.outputs[0]].type.elementType == .float32
    guard !isFloat || binary.output == .float32 && binary.secondFunction == nil else {
      throw .unsupported("a function that stores codes; raise the program first")
    }
    let operands = try inputs(node)
    switch binary.function {
    case .add: try emit("Add", operands, node)
    case .subtract: try emit("Sub", operands, node)
    case .multiply: try emit("Mul", operands, node)
    case .divide: try emit("Div", operands, node)
    case .minimum: try emit("Min", operands, node)
    case .maximum: try emit("Max", operands, node)
    case .power: try emit("Pow", operands, node)
    case .remainder: try emit("Mod", operands, node, [("fmod", .flag(isFloat))])
    case .parametricRelu: try emit("PRelu", operands, node)
    }
  }

  mutating func write(_ comparison: Compare, _ node: Graph.Node) throws(QMError) {
    let name =
      switch comparison.function {
      case .equal: "Equal"
      case .less: "Less"
      case .lessOrEqual: "LessOrEqual"
      case .greater: "Greater"
      case .greaterOrEqual: "GreaterOrEqual"
      }
    try emit(name, inputs(node), node)
  }

  mutating func write(_ logic: Logic, _ node: Graph.Node) throws(QMError) {
    let name =
      switch logic.function {
      case .and: "And"
      case .or: "Or"
      case .exclusiveOr: "Xor"
      }
    try emit(name, inputs(node), node)
  }

  mutating func write(_ test: IsNaNOrInf, _ node: Graph.Node) throws(QMError) {
    switch test.kind {
    case .notANumber: try emit("IsNaN", inputs(node), node)
    case .infinite: try emit("IsInf", inputs(node), node)
    case .positiveInfinite:
      try emit("IsInf", inputs(node), node, [("detect_negative", .flag(false))])
    case .negativeInfinite:
      try emit("IsInf", inputs(node), node, [("detect_positive", .flag(false))])
    }
  }
}

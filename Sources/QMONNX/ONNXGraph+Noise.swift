import QMTensor

// Random numbers. A run that draws them gives other outputs each time, so that no file could promise
// its own: their values are inputs, or one number for all.

extension ONNXNode {
  /// Operators whose results are drawn at random, and whether the result has the shape of the input.
  private static let randomOperators: [String: Bool] = [
    "RandomNormal": false, "RandomUniform": false, "Multinomial": false, "RandomNormalLike": true,
    "RandomUniformLike": true, "Bernoulli": true,
  ]

  /// Whether the result is drawn at random.
  var isRandom: Bool { domain.isEmpty && Self.randomOperators[operation] != nil }

  /// Whether one number can take the place of each that is drawn.
  var canRepeatOneNumber: Bool { constantNoise(0) != nil }

  /// Nodes that give one number everywhere in place of the result; nil where its shape is not that
  /// of the input or an attribute.
  fileprivate func constantNoise(_ number: Float) -> [ONNXNode]? {
    guard isRandom, let isLike = Self.randomOperators[operation], outputs.count == 1 else {
      return nil
    }
    // Names that no file has.
    let mark = "\u{1}noise/\(outputs[0])/"
    func node(
      _ operation: String, _ inputs: [String], _ output: String, _ attributes: [ONNXAttribute] = []
    ) -> ONNXNode {
      ONNXNode(
        name: "\(label)/\(operation)", operation: operation, domain: "", opset: 20, inputs: inputs,
        outputs: [output], attributes: attributes, position: position)
    }
    let constant = node(
      "Constant", [], mark + "number", [ONNXAttribute(name: "value_float", value: .float(number))])
    let wide: [ONNXNode]
    if isLike {
      guard inputs.count == 1 else { return nil }
      // Unlike an Expand to computed extents, this keeps the names of dynamic axes.
      wide = [
        node("Equal", [inputs[0], inputs[0]], mark + "mask"),
        node("Where", [mark + "mask", mark + "number", mark + "number"], mark + "noise"),
      ]
    } else {
      guard
        case .integers(let extents)? = attributes.first(where: { $0.name == "shape" })?.value
      else { return nil }
      wide = [
        node(
          "Constant", [], mark + "extents",
          [ONNXAttribute(name: "value_ints", value: .integers(extents))]),
        node("Expand", [mark + "number", mark + "extents"], mark + "noise"),
      ]
    }
    let cast: ONNXNode
    if let type = attributes.first(where: { $0.name == "dtype" }) {
      cast = node(
        "Cast", [mark + "noise"], outputs[0], [ONNXAttribute(name: "to", value: type.value)])
    } else if isLike {
      cast = node("CastLike", [mark + "noise", inputs[0]], outputs[0])
    } else {
      cast = node("Identity", [mark + "noise"], outputs[0])
    }
    return [constant] + wide + [cast]
  }
}

extension ONNXGraph {
  /// Puts one number in place of each result that is drawn at random.
  /// - Parameter number: nil for a result that stays as it is.
  mutating func replaceNoise(_ number: (String) -> Float?) {
    nodes = nodes.flatMap { node in
      guard node.isRandom, let output = node.outputs.first, let number = number(output),
        let others = node.constantNoise(number)
      else { return [node] }
      return others
    }
  }
}

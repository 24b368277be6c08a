import QMOperations
import QMTensor

extension NodeReader {
  /// NonMaxSuppression: again and again the best box of each class is chosen, and all that overlap it
  /// too much are left out. A loop over vectors; the run finds how many boxes there are.
  func nonMaxSuppression() throws(QMError) {
    let (boxes, given) = (try float(0), try float(1))
    guard shape(boxes).rank == 3, shape(given).rank == 3, shape(boxes)[2].extent ?? 4 == 4 else {
      throw .malformed(
        "boxes \(shape(boxes)) and scores \(shape(given)); expected [N, boxes, 4] and [N, classes, boxes]"
      )
    }
    let zero = try number(0, like: boxes)
    let lowest = try number(-.infinity, like: given)
    var scores = given
    if let threshold = try optionalFloat(4) {
      let isAbove = try call("Greater", given, reshaped(threshold, []))
      scores = try call("Where", isAbove, given, lowest)
    }
    let overlap = try hasInput(3) ? reshaped(float(3), []) : zero
    let sides = try sides(of: boxes)
    func row(_ value: Value) throws(QMError) -> Value { try transposed(value, [0, 2, 1]) }
    let area = try call(
      "Mul", call("Sub", sides[2], sides[0]), call("Sub", sides[3], sides[1]))
    let boxCount = try call(
      "Squeeze", call("Shape", boxes, with: ["start": .integer(1), "end": .integer(2)]),
      integers([0]))
    let placesOfBoxes = try call(
      "Range", addConstant(Tensor([], [Int64(0)]), "first"), boxCount,
      addConstant(Tensor([], [Int64(1)]), "step"))
    // The values that the body reads from outside, under names that no file has.
    let outside: [(String, Value)] = [
      ("corners", try call("Concat", sides, ["axis": .integer(2)], outputs: 1)[0]),
      ("top", try row(sides[0])), ("left", try row(sides[1])), ("bottom", try row(sides[2])),
      ("right", try row(sides[3])), ("area", try row(area)), ("zero", zero), ("lowest", lowest),
      ("overlap", overlap), ("places", placesOfBoxes),
      ("none", addConstant(try Tensor([], [Int64(-1)]), "none")),
    ]
    let mark = "\u{1}\(node.label)/"
    for (name, value) in outside { builder.define(mark + name, value) }
    let none = addConstant(try Tensor([], [Int64(0)]), "most")
    let most = try call("Min", [reshaped(int64(2) ?? none, []), boxCount], outputs: 1)[0]
    let results = try results(
      of: LoopForm(
        body: suppressionStep(mark), count: most, condition: nil, carried: [.value(scores)],
        scanned: [], stacking: [LoopForm.Stacking(axis: 0, isReversed: false)], hasCondition: true))
    guard case .value(let stacked) = results[1] else { throw .malformed("no boxes") }

    let chosen = try transposed(call("Squeeze", stacked, integers([3])), [1, 2, 0])
    let isChosen = try call("GreaterOrEqual", chosen, addConstant(Tensor([], [Int64(0)]), "first"))
    let places = try transposed(
      call("NonZero", append(.cast(Cast(to: .int64)), [isChosen], as: .int64, "chosen")), [1, 0])
    let own = try call("Unsqueeze", call("GatherND", chosen, places), integers([1]))
    try finish(
      call(
        "Concat", [sliced(places, axis: 1, from: 0, to: 2), own], ["axis": .integer(1)], outputs: 1)
    )
  }

  /// Top, left, bottom and right of boxes, each [N, boxes, 1].
  private func sides(of boxes: Value) throws(QMError) -> [Value] {
    let parts = try call(
      "Split", [boxes], ["axis": .integer(2), "num_outputs": .integer(4)], outputs: 4)
    guard try flag("center_point_box", default: false) else {
      // Two opposite corners, in any order: y₁, x₁, y₂, x₂.
      return [
        try call("Min", [parts[0], parts[2]], outputs: 1)[0],
        try call("Min", [parts[1], parts[3]], outputs: 1)[0],
        try call("Max", [parts[0], parts[2]], outputs: 1)[0],
        try call("Max", [parts[1], parts[3]], outputs: 1)[0],
      ]
    }
    // Centre and extent: x, y, width, height.
    let half = try number(0.5, like: boxes)
    let (width, height) = (try call("Mul", parts[2], half), try call("Mul", parts[3], half))
    return [
      try call("Sub", parts[1], height), try call("Sub", parts[0], width),
      try call("Add", parts[1], height), try call("Add", parts[0], width),
    ]
  }

  /// The body of the loop: from the scores that are left to the scores that are left after the best box
  /// of each class, and the place of that box, −1 where none is left.
  private func suppressionStep(_ mark: String) -> ONNXGraph {
    var nodes: [ONNXNode] = []
    func add(
      _ operation: String, _ inputs: String, _ outputs: String,
      _ attributes: [(String, Int)] = []
    ) {
      // What the body does not make itself comes from outside.
      let known = Set(nodes.flatMap(\.outputs)).union(["go", "live"])
      nodes.append(
        ONNXNode(
          name: "", operation: operation, domain: "", opset: 20,
          inputs: inputs.split(separator: " ").map {
            known.contains(String($0)) ? String($0) : mark + $0
          },
          outputs: outputs.split(separator: " ").map(String.init),
          attributes: attributes.map { ONNXAttribute(name: $0, value: .integer(Int64($1))) },
          position: node.position))
    }
    add("ArgMax", "live", "best", [("axis", 2), ("keepdims", 1)])
    add("GatherElements", "live best", "score", [("axis", 2)])
    add("Greater", "score lowest", "isLeft")
    add("Where", "isLeft best none", "place")
    add("GatherND", "corners best", "corner", [("batch_dims", 1)])
    add("Split", "corner", "y1 x1 y2 x2", [("axis", 2), ("num_outputs", 4)])
    for (first, last, least, most, result) in [
      ("y1", "y2", "top", "bottom", "height"), ("x1", "x2", "left", "right", "width"),
    ] {
      add("Max", "\(first) \(least)", "\(result)From")
      add("Min", "\(last) \(most)", "\(result)To")
      add("Sub", "\(result)To \(result)From", "\(result)Signed")
      add("Max", "\(result)Signed zero", result)
      add("Sub", "\(last) \(first)", "\(result)OfBest")
    }
    add("Mul", "height width", "shared")
    add("Mul", "heightOfBest widthOfBest", "areaOfBest")
    add("Add", "areaOfBest area", "both")
    add("Sub", "both shared", "union")
    add("Div", "shared union", "ratio")
    add("Greater", "ratio overlap", "isOver")
    add("Equal", "places best", "isBest")
    add("Or", "isOver isBest", "isGone")
    add("Where", "isGone lowest live", "left1")
    add("Identity", "go", "gone")
    func port(_ name: String) -> ONNXValueInfo { ONNXValueInfo(name: name, type: nil) }
    return ONNXGraph(
      name: "body", nodes: nodes, initializers: [], inputs: ["i", "go", "live"].map(port),
      outputs: ["gone", "left1", "place"].map(port), sparseInitializerCount: 0)
  }
}

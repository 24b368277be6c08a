import QMGraph
import QMOperations
import QMTensor

// TreeEnsembleRegressor, TreeEnsembleClassifier and TreeEnsemble of ai.onnx.ml: all trees go down one
// step at a time, as a vector of places.

extension NodeReader {
  /// The weights of the leaves: each has a number for each target.
  private struct Leaves {
    let targets: Int
    /// Weights and their marks whether the file gives them, [leaves, targets].
    var weights: [Float]
    var isGiven: [Bool]

    init(_ count: Int, targets: Int) throws(QMError) {
      guard targets >= 1, count <= DecisionForest.mostNodes,
        targets <= (1 << 26) / max(count, 1)
      else {
        throw .unsupported(
          "\(count) leaves with \(targets) numbers; expected 1 to \((1 << 26) / max(count, 1))",
          remedies: .cutBefore)
      }
      self.targets = targets
      weights = Array(repeating: 0, count: count * targets)
      isGiven = Array(repeating: false, count: count * targets)
    }

    mutating func add(_ weight: Double, leaf: Int, target: Int) throws(QMError) {
      guard (0..<targets).contains(target) else {
        throw .malformed("a leaf has target \(target) of \(targets)")
      }
      weights[leaf * targets + target] += Float(weight)
      isGiven[leaf * targets + target] = true
    }
  }

  /// Numbers of an attribute, or of the one of the same name with `_as_tensor`.
  private func reals(_ name: String) throws(QMError) -> [Double]? {
    if let numbers = try numbers(name), !numbers.isEmpty { return numbers.map(Double.init) }
    return try tensor("\(name)_as_tensor").map(Self.reals)
  }

  private static func reals(_ tensor: Tensor) throws(QMError) -> [Double] {
    try Operation.cast(Cast(to: .float64)).evaluate([tensor])[0].elements(as: Double.self)
  }

  /// Numbers of an attribute that must be as many as others.
  private func integers(_ name: String, count: Int) throws(QMError) -> [Int] {
    let numbers = try integers(name) ?? []
    guard numbers.count == count else {
      throw .malformed("\(numbers.count) numbers in '\(name)', expected \(count)")
    }
    return numbers
  }

  // MARK: The operators

  func treeRegressor() throws(QMError) {
    let targets = try integer("n_targets") ?? 1
    let (forest, leaves) = try namedTrees("target", targets: targets)
    let sums = try scores(
      of: forest, leaves, aggregate: text("aggregate_function", default: "SUM"))
    try finish([
      transformed(withBase(sums, targets), text("post_transform", default: "NONE"))
    ])
  }

  /// TreeEnsembleClassifier: the class of the largest score, and the scores.
  func treeClassifier() throws(QMError) {
    let labels = try integers("classlabels_int64s")
    let names = try texts("classlabels_strings")
    let count = labels?.count ?? names?.count ?? 0
    guard count >= 1 else { throw .malformed("it has no classes") }
    guard labels != nil || node.outputs.first.map({ !builder.isUsed($0) }) ?? true else {
      throw .unsupported(
        "classes that are texts; expected integers, or only the scores to be read",
        remedies: .cutAfter)
    }
    let (forest, leaves) = try namedTrees("class", targets: count)
    let classes = try addConstant(labels ?? Array(0..<count), "classes")
    let given = try Set(integers("class_ids") ?? [])
    let all = try scores(of: forest, leaves, aggregate: "SUM")
    guard count == 2, given.count == 1, let only = given.first else {
      let sums = try withBase(all, count)
      let place = try call(
        "ArgMax", sums, with: ["axis": .integer(1), "keepdims": .integer(0)])
      return try finish([
        call("Gather", classes, place),
        transformed(sums, text("post_transform", default: "NONE")),
      ])
    }
    // One score says how much the second class is likelier. If it is that of the second class in the
    // file, the first class keeps 0, as in ONNX Runtime.
    let sums = try withBase(all, only == 0 ? 1 : 2)
    let score = try sliced(sums, axis: 1, from: only, to: only + 1)
    let isProbability = leaves.weights.allSatisfy { $0 >= 0 }
    let isSecond = try call(
      "Greater", call("Squeeze", score, integers([1])),
      number(isProbability ? 0.5 : 0, like: score))
    let place = try append(.cast(Cast(to: .int64)), [isSecond], as: .int64, "place")
    let transformation = try text("post_transform", default: "NONE")
    guard only == 0 else {
      return try finish([call("Gather", classes, place), transformed(sums, transformation)])
    }
    let both: [Value]
    switch transformation {
    case "NONE",
      "LOGISTIC" where isProbability:
      both = [
        try isProbability ? call("Sub", number(1, like: score), score) : call("Neg", score), score,
      ]
    case "LOGISTIC":
      both = [try call("Sigmoid", call("Neg", score)), try call("Sigmoid", score)]
    default:
      throw .unsupported(
        "post_transform '\(transformation.abbreviated)' of one score for two classes",
        remedies: .cutBefore)
    }
    try finish([
      call("Gather", classes, place),
      call("Concat", both, ["axis": .integer(1)], outputs: 1)[0],
    ])
  }

  /// TreeEnsemble: the same trees in arrays of nodes and leaves.
  func treeEnsemble() throws(QMError) {
    guard let features = try integers("nodes_featureids"), let splits = try tensor("nodes_splits"),
      let modes = try tensor("nodes_modes"), let weights = try tensor("leaf_weights"),
      let targets = try integers("leaf_targetids"), let starts = try integers("tree_roots")
    else { throw .malformed("an array of the trees is missing") }
    let count = features.count
    let (values, modeNumbers) = (try Self.reals(splits), try Self.reals(modes))
    let leafWeights = try Self.reals(weights)
    guard values.count == count, modeNumbers.count == count, targets.count == leafWeights.count
    else { throw .malformed("the arrays of the trees have different lengths") }
    let (yes, no) = (
      try integers("nodes_truenodeids", count: count),
      try integers("nodes_falsenodeids", count: count)
    )
    let (yesLeaf, noLeaf) = (
      try integers("nodes_trueleafs", count: count), try integers("nodes_falseleafs", count: count)
    )
    let tracks = try integers("nodes_missing_value_tracks_true")
    guard tracks.map({ $0.count == count }) ?? true else {
      throw .malformed("'nodes_missing_value_tracks_true' does not fit the \(count) nodes")
    }
    // Sets of members end with NaN.
    let members = try tensor("membership_values").map(Self.reals) ?? []
    var sets = members.split(omittingEmptySubsequences: false, whereSeparator: \.isNaN)[...]
    var nodes: [DecisionForest.Node] = []
    for index in 0..<count {
      guard
        let mode = DecisionForest.Mode.allCases.first(where: {
          Double($0.rawValue) == modeNumbers[index]
        })
      else { throw .malformed("node \(index) has mode \(modeNumbers[index])") }
      nodes.append(
        DecisionForest.Node(
          mode: mode, feature: features[index], value: values[index],
          members: mode == .member ? Array(sets.popFirst() ?? []) : [],
          yes: yesLeaf[index] != 0 ? .leaf(yes[index]) : .node(yes[index]),
          no: noLeaf[index] != 0 ? .leaf(no[index]) : .node(no[index]),
          followsYes: tracks.map { $0[index] != 0 } ?? false))
    }
    var leaves = try Leaves(targets.count, targets: integer("n_targets") ?? 1)
    for (leaf, target) in targets.enumerated() {
      try leaves.add(leafWeights[leaf], leaf: leaf, target: target)
    }
    let forest = try DecisionForest(
      nodes, starts: starts.map { .node($0) }, leafCount: targets.count, featureType: raw(0).type)
    func name(_ attribute: String, _ names: [String], default standard: Int) throws(QMError)
      -> String
    {
      let number = try integer(attribute) ?? standard
      guard names.indices.contains(number) else {
        throw .malformed("attribute '\(attribute)' is \(number)")
      }
      return names[number]
    }
    let sums = try scores(
      of: forest, leaves,
      aggregate: name("aggregate_function", ["AVERAGE", "SUM", "MIN", "MAX"], default: 1))
    let result = try transformed(
      sums,
      name("post_transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"], default: 0))
    try finish([Value(place: result.place, type: raw(0).type)])
  }

  // MARK: Trees

  /// The trees of TreeEnsembleRegressor (`target_…`) and TreeEnsembleClassifier (`class_…`), whose
  /// nodes have a number in their tree.
  private func namedTrees(
    _ prefix: String, targets: Int
  ) throws(QMError) -> (DecisionForest, Leaves) {
    let trees = try integers("nodes_treeids") ?? []
    let count = trees.count
    guard count >= 1, count <= DecisionForest.mostNodes else {
      throw .unsupported(
        "\(count) nodes of trees; expected 1 to \(DecisionForest.mostNodes)", remedies: .cutBefore)
    }
    let ids = try integers("nodes_nodeids", count: count)
    let features = try integers("nodes_featureids", count: count)
    let (yes, no) = (
      try integers("nodes_truenodeids", count: count),
      try integers("nodes_falsenodeids", count: count)
    )
    let modes = try texts("nodes_modes") ?? []
    let values = try reals("nodes_values") ?? []
    let tracks = try integers("nodes_missing_value_tracks_true") ?? []
    guard modes.count == count, values.count == count, tracks.isEmpty || tracks.count == count
    else { throw .malformed("the attributes of the \(count) nodes have different lengths") }

    struct Key: Hashable {
      let tree: Int
      let node: Int
    }
    var indices: [Key: Int] = [:]
    var leafNumbers = [Int?](repeating: nil, count: count)
    var leafCount = 0
    for index in 0..<count {
      guard indices.updateValue(index, forKey: Key(tree: trees[index], node: ids[index])) == nil
      else { throw .malformed("tree \(trees[index]) has node \(ids[index]) twice") }
      if modes[index] == "LEAF" {
        leafNumbers[index] = leafCount
        leafCount += 1
      }
    }
    func child(_ tree: Int, _ id: Int) throws(QMError) -> DecisionForest.Child {
      guard let index = indices[Key(tree: tree, node: id)] else {
        throw .malformed("tree \(tree) has no node \(id)")
      }
      return leafNumbers[index].map(DecisionForest.Child.leaf) ?? .node(index)
    }
    var nodes: [DecisionForest.Node] = []
    var starts: [DecisionForest.Child] = []
    for index in 0..<count {
      // A tree begins with its first node.
      if index == 0 || trees[index] != trees[index - 1] {
        try starts.append(child(trees[index], ids[index]))
      }
      guard leafNumbers[index] == nil else {
        nodes.append(
          DecisionForest.Node(
            mode: .atMost, feature: 0, value: 0, yes: .leaf(0), no: .leaf(0), followsYes: false))
        continue
      }
      guard let mode = DecisionForest.Mode(name: modes[index]) else {
        throw .malformed("a node has mode '\(modes[index].abbreviated)'")
      }
      nodes.append(
        DecisionForest.Node(
          mode: mode, feature: features[index], value: values[index],
          yes: try child(trees[index], yes[index]), no: try child(trees[index], no[index]),
          followsYes: tracks.isEmpty ? false : tracks[index] != 0))
    }
    var leaves = try Leaves(leafCount, targets: targets)
    let weights = try reals("\(prefix)_weights") ?? []
    let ofTrees = try integers("\(prefix)_treeids", count: weights.count)
    let ofNodes = try integers("\(prefix)_nodeids", count: weights.count)
    let ofTargets = try integers("\(prefix)_ids", count: weights.count)
    for index in weights.indices {
      guard case .leaf(let leaf) = try child(ofTrees[index], ofNodes[index]) else {
        throw .malformed(
          "node \(ofNodes[index]) of tree \(ofTrees[index]) has a weight but is no leaf")
      }
      try leaves.add(weights[index], leaf: leaf, target: ofTargets[index])
    }
    return (
      try DecisionForest(nodes, starts: starts, leafCount: leafCount, featureType: raw(0).type),
      leaves
    )
  }

  /// Scores with the attribute `base_values` added.
  private func withBase(_ scores: Value, _ count: Int) throws(QMError) -> Value {
    guard let base = try reals("base_values"), !base.isEmpty else { return scores }
    guard base.count == count || base.count == 1 else {
      throw .malformed("\(base.count) base_values for \(count) scores")
    }
    return try call(
      "Add", scores, addConstant(Tensor([base.count], base.map { Float($0) }), "base"))
  }

  /// The leaves that the trees reach, with their weights put together: [rows, targets].
  private func scores(
    of forest: DecisionForest, _ leaves: Leaves, aggregate: String
  ) throws(QMError) -> Value {
    // Other float types than float32 are float32 in the graph.
    let input = Value(place: try numbers().place, type: .float32)
    guard shape(input).rank == 2, !forest.roots.isEmpty,
      shape(input)[1].extent.map({ $0 > 0 }) ?? true,
      forest.questions.allSatisfy({
        $0.feature >= 0 && $0.feature < shape(input)[1].extent ?? Int.max
      })
    else {
      throw .malformed(
        "an input \(shape(input)) for \(forest.roots.count) trees; expected [rows, features] with all features that they read"
      )
    }
    let places = try leavesReached(forest, input, leafCount: leaves.weights.count / leaves.targets)
    let isSum = aggregate == "SUM" || aggregate == "AVERAGE"
    guard isSum || leaves.isGiven.allSatisfy({ $0 }) else {
      throw .unsupported(
        "aggregate_function '\(aggregate.abbreviated)' where leaves lack targets",
        remedies: .cutBefore)
    }
    let table = addConstant(
      try Tensor([leaves.weights.count / leaves.targets, leaves.targets], leaves.weights), "leaves")
    // They are what the trees decide, not what a sum averages: none is rounded.
    builder.construction.attach(.elements, to: table)
    let weights = try call("Gather", table, places)
    func over(_ operation: String) throws(QMError) -> Value {
      try call(operation, weights, integers([1]), with: ["keepdims": .integer(0)])
    }
    switch aggregate {
    case "SUM": return try over("ReduceSum")
    case "AVERAGE":
      let sum = try over("ReduceSum")
      return try call("Div", sum, number(Double(forest.roots.count), like: sum))
    case "MIN": return try over("ReduceMin")
    case "MAX": return try over("ReduceMax")
    default:
      throw .malformed("aggregate_function '\(aggregate.abbreviated)'")
    }
  }

  /// The leaf that each tree reaches with each row, [rows, trees].
  private func leavesReached(
    _ forest: DecisionForest, _ input: Value, leafCount: Int
  ) throws(QMError) -> Value {
    /// A leaf is a node that leads to itself.
    func number(_ place: DecisionForest.Place) -> Int64 {
      switch place {
      case .leaf(let leaf): Int64(leaf)
      case .question(let index): Int64(leafCount + index)
      }
    }
    let count = leafCount + forest.questions.count
    let own = (0..<leafCount).map { Int64($0) }
    func table(
      _ name: String, _ number: (DecisionForest.Question) -> Int64, leaf: [Int64]
    ) throws(QMError) -> Value {
      addConstant(try Tensor([count], leaf + forest.questions.map(number)), name)
    }
    let features = try table(
      "features", { Int64($0.feature) }, leaf: [Int64](repeating: 0, count: leafCount))
    let thresholds = addConstant(
      try Tensor(
        [count], [Float](repeating: 0, count: leafCount) + forest.questions.map(\.threshold)),
      "thresholds")
    builder.construction.attach(.elements, to: thresholds)
    let yes = try table("yes", { number($0.yes) }, leaf: own)
    let no = try table("no", { number($0.no) }, leaf: own)
    let hasOwnMissing = forest.questions.contains { $0.missing != $0.no }
    let missing = try hasOwnMissing ? table("missing", { number($0.missing) }, leaf: own) : no

    var places = addConstant(
      try Tensor([forest.roots.count], forest.roots.map(number)), "roots")
    for step in 0..<max(forest.depth, 1) {
      let feature = try call("Gather", features, places)
      let value =
        try step == 0
        ? call("Gather", input, feature, with: ["axis": .integer(1)])
        : call("GatherElements", input, feature, with: ["axis": .integer(1)])
      var next = try call(
        "Where", call("LessOrEqual", value, call("Gather", thresholds, places)),
        call("Gather", yes, places), call("Gather", no, places))
      if hasOwnMissing {
        next = try call("Where", call("IsNaN", value), call("Gather", missing, places), next)
      }
      places = next
    }
    return places
  }
}

import QMTensor

/// Decision trees in one table of nodes, each of which asks whether one number is at most a threshold.
/// The other questions of ONNX become one or several nodes of this kind.
struct DecisionForest {
  /// A node's number: that of a leaf, or of a question.
  enum Place: Hashable {
    case leaf(Int)
    case question(Int)
  }

  /// Whether a feature is at most the threshold.
  struct Question {
    let feature: Int
    let threshold: Float
    let yes: Place
    let no: Place
    /// Where NaN leads.
    let missing: Place
  }

  /// What a tree asks, by ONNX's number of the mode in TreeEnsemble.
  enum Mode: Int, CaseIterable {
    case atMost, less, atLeast, greater, equal, unequal, member

    /// nil for other names than those of TreeEnsembleRegressor; `LEAF` is none of the questions.
    init?(name: String) {
      switch name {
      case "BRANCH_LEQ": self = .atMost
      case "BRANCH_LT": self = .less
      case "BRANCH_GTE": self = .atLeast
      case "BRANCH_GT": self = .greater
      case "BRANCH_EQ": self = .equal
      case "BRANCH_NEQ": self = .unequal
      default: return nil
      }
    }
  }

  /// Nodes of all trees, and their leaves, that can be read.
  static let mostNodes = 1 << 22
  /// Questions on the way from a root to a leaf; each takes a few operations.
  static let mostSteps = 512

  /// Whether the features were rounded to float32, so that thresholds are too: a feature that equals
  /// its threshold goes on doing so.
  private let roundsFeatures: Bool
  private(set) var questions: [Question] = []
  var roots: [Place] = []
  private var steps: [Int] = []

  /// Questions on the longest way to a leaf.
  var depth: Int {
    roots.reduce(0) { max($0, steps(from: $1)) }
  }

  private func steps(from place: Place) -> Int {
    if case .question(let index) = place { steps[index] } else { 0 }
  }

  private mutating func add(
    _ feature: Int, _ threshold: Float, _ yes: Place, _ no: Place, missing: Place
  ) throws(QMError) -> Place {
    let longest = max(steps(from: yes), steps(from: no)) + 1
    guard questions.count < Self.mostNodes, longest <= Self.mostSteps else {
      throw .unsupported(
        "trees of more than \(Self.mostNodes) nodes, or \(Self.mostSteps) questions to a leaf",
        remedies: .cutBefore)
    }
    questions.append(
      Question(feature: feature, threshold: threshold, yes: yes, no: no, missing: missing))
    steps.append(longest)
    return .question(questions.count - 1)
  }

  /// Adds a node of ONNX whose children are there.
  /// - Parameters:
  ///   - value: the number that a feature is compared with.
  ///   - members: the set of a node of mode ``Mode/member``.
  ///   - followsYes: whether NaN leads where a true answer leads.
  mutating func add(
    _ mode: Mode, _ feature: Int, _ value: Double, members: [Double], yes: Place, no: Place,
    followsYes: Bool
  ) throws(QMError) -> Place {
    let missing = followsYes ? yes : no
    guard mode == .member || !value.isNaN else { throw .malformed("a node compares with NaN") }
    // float32 numbers at most a float64 number are those at most the float32 number below it.
    let bound = roundsFeatures ? Float(value) : Self.float32(atMost: value)
    let below = roundsFeatures || Double(bound) == value ? Self.nextDown(bound) : bound
    switch mode {
    case .atMost: return try add(feature, bound, yes, no, missing: missing)
    case .greater: return try add(feature, bound, no, yes, missing: missing)
    case .less:
      return try add(feature, below, yes, no, missing: missing)
    case .atLeast:
      return try add(feature, below, no, yes, missing: missing)
    case .equal:
      return try addMembership(feature, [value], yes: yes, no: no, missing: missing)
    case .unequal:
      return try addMembership(feature, [value], yes: no, no: yes, missing: missing)
    case .member:
      return try addMembership(feature, members, yes: yes, no: no, missing: missing)
    }
  }

  /// Two questions for each number that float32 holds.
  private mutating func addMembership(
    _ feature: Int, _ values: [Double], yes: Place, no: Place, missing: Place
  ) throws(QMError) -> Place {
    // −0 and 0 are one number.
    let numbers = Set(
      values.compactMap { roundsFeatures || Double(Float($0)) == $0 ? Float($0) + 0 : nil }
    ).sorted()
    // From the least to the largest, so that the questions form a chain; the last come first here.
    var place = no
    for number in numbers.reversed() {
      // NaN is at most nothing, so that it goes on to the last question.
      let isBelow = try add(feature, Self.nextDown(number), no, yes, missing: missing)
      place = try add(feature, number, isBelow, place, missing: missing)
    }
    return place
  }

  /// The number below, or NaN, which no number is at most, below −∞.
  private static func nextDown(_ number: Float) -> Float {
    number == -.infinity ? .nan : number.nextDown
  }

  private static func float32(atMost value: Double) -> Float {
    let nearest = Float(value)
    return Double(nearest) > value ? nearest.nextDown : nearest
  }
}

extension DecisionForest {
  /// A node of ONNX, with the numbers of its children among all nodes of the file.
  struct Node {
    var mode: Mode
    var feature: Int
    var value: Double
    var members: [Double] = []
    var yes: Child
    var no: Child
    var followsYes: Bool
  }

  /// A child of a node: a leaf, or the index of a node.
  enum Child {
    case leaf(Int)
    case node(Int)
  }

  /// Makes the forest of trees that begin at `starts`.
  /// - Parameter featureType: the type that the features have in the file.
  /// - Throws: `malformed` for an index that is no node and for nodes that lead back to themselves;
  ///   `unsupported` for too large trees.
  init(
    _ nodes: [Node], starts: [Child], leafCount: Int, featureType: ElementType
  ) throws(QMError) {
    roundsFeatures = featureType == .float64
    var places = [Place?](repeating: nil, count: nodes.count)
    var isOpen = [Bool](repeating: false, count: nodes.count)
    func place(_ child: Child) throws(QMError) -> Place? {
      switch child {
      case .leaf(let leaf):
        guard (0..<leafCount).contains(leaf) else {
          throw .malformed("a tree names leaf \(leaf) of \(leafCount)")
        }
        return .leaf(leaf)
      case .node(let index):
        guard nodes.indices.contains(index) else {
          throw .malformed("a tree names node \(index) of \(nodes.count)")
        }
        return places[index]
      }
    }
    for start in starts {
      var pending: [Int] = []
      if try place(start) == nil, case .node(let index) = start { pending.append(index) }
      while let index = pending.last {
        let node = nodes[index]
        // The children first.
        var isReady = true
        for child in [node.yes, node.no] {
          guard try place(child) == nil, case .node(let next) = child else { continue }
          guard !isOpen[next], next != index else {
            throw .malformed("node \(next) of a tree leads back to itself")
          }
          isReady = false
          isOpen[index] = true
          pending.append(next)
          break
        }
        guard isReady else { continue }
        if places[index] == nil, let yes = try place(node.yes), let no = try place(node.no) {
          places[index] = try add(
            node.mode, node.feature, node.value, members: node.members, yes: yes, no: no,
            followsYes: node.followsYes)
        }
        isOpen[index] = false
        pending.removeLast()
      }
      if let root = try place(start) { roots.append(root) }
    }
  }
}
